"""Dividing the fleet's rate, and keeping to a share of it."""
