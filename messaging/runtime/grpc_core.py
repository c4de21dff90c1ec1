"""Turns off what grpc's C core prints to standard error.

It writes there by itself, past every log, and repeats what callers send: the text of a GOAWAY frame with its line
breaks, so that a caller could write log lines of its own. Our code logs every failed call.
"""

import os


def silence() -> None:
    """Turn it off; call this before `grpc` is imported, because it is read then."""
    os.environ["GRPC_VERBOSITY"] = "NONE"
    os.environ.pop("GRPC_TRACE", None)
