"""Sends one provider's messages."""
