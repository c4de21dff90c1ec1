"""Runs every example client against the real system and tells whether all see the same."""
