"""Writes moments for people: in UTC, to the second."""

import time

_LAST = 253_402_300_799.0
"""The end of the year 9999; a document may hold any number."""


def utc(unix_s: float) -> str:
    """Return a moment as `2026-11-29 07:30:00 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(0.0, unix_s), _LAST)))
