"""The breaker of a provider, shared by its pods."""
