"""Sending one provider's messages."""
