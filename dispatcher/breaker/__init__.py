"""The breaker of a provider, shared by the provider's pods."""
