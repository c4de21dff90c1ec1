"""Divides the fleet's rate into shares, and keeps each pod within its share."""
