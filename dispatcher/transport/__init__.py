"""Makes the calls to providers: connections, requests built by the dialects in `providers/`, and the write gate."""
