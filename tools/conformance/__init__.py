"""Runs every example client against the real system and checks that all see the same."""
