"""Simulated SMS providers: several in one process, each with its own port, behaviour and log of calls."""
