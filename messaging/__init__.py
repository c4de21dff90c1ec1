"""The heart: what both hands share, and neither process."""
