"""Gives memory back to the operating system after a large amount was used for a moment.

The C library keeps what was freed: two hundred large requests at once, each refused, held half a gigabyte for ever.
"""

import asyncio
import ctypes
import os
import pathlib
from collections.abc import Callable

_EVERY_S = 2.0
_ROUNDS = 15
_STEP_BYTES = 16 * 1024 * 1024
_STATM = pathlib.Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return how much memory this process holds; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def trim() -> None:
    """Ask the C library to give back what it holds and does not use; do nothing where it cannot."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


async def give_back(
    resident: Callable[[], int] = resident_bytes, trimming: Callable[[], None] = trim, every_s: float = _EVERY_S
) -> None:
    """Trim when the process has grown, and for a while after it, until cancelled; in a thread, as it takes some ms.

    What is in use while the process grows is freed later, and the process does not grow then.
    """
    lowest, rounds = resident(), 0
    while True:
        await asyncio.sleep(every_s)
        held = resident()
        if held > lowest + _STEP_BYTES:
            rounds = _ROUNDS
        lowest = min(lowest, held)
        if rounds:
            rounds -= 1
            await asyncio.to_thread(trimming)
            lowest = resident()
