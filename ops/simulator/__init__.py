"""A simulated SMS provider: several in one process, each with a port, a behaviour and a record of its own."""
