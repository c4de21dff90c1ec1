"""Dialects of the providers' APIs, one file each: how to build a request, and what an answer means. Pure."""
