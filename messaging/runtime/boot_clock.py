"""The clock by which leases end: it goes on while the machine is suspended, and nobody can set it.

Python's `time.monotonic` stands still then: a pod that wakes up would take a lease for valid that ended long ago, and
so would an attempt whose message another pod has taken over.
"""

import time

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Return seconds since the machine was started, with those in which it was suspended (on Linux)."""
    return time.clock_gettime(_CLOCK)
