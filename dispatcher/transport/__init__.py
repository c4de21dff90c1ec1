"""Where the dialects of `providers/` meet the wire: connections, calls, and the gate before each write."""
