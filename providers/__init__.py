"""Providers' APIs as pure dialects, one file each: what a request looks like, and what an answer means."""
