"""Trying again what failed for now, with a pause before each try that grows up to a longest one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import attrs

_T = TypeVar("_T")


@attrs.frozen
class Backoff:
    """How long to pause before trying again: `first_s`, then twice as long each time, never above `longest_s`."""

    first_s: float
    longest_s: float

    def pauses(self) -> Iterator[float]:
        """Give the pauses in their order, in seconds, without end."""
        pause_s = self.first_s
        while True:
            yield pause_s
            pause_s = min(2 * pause_s, self.longest_s)


async def retry(
    once: Callable[[], Awaitable[_T]],
    backoff: Backoff,
    upon: type[Exception] | tuple[type[Exception], ...],
    budget_s: float | None = None,
) -> _T:
    """Repeat `once` while it raises one of `upon`; every other exception ends it at once.

    No try begins once `budget_s` is spent: the last exception is raised instead of a pause that would outlast it. The
    first try is always made. None means: until it succeeds or the task is cancelled.
    """
    clock = asyncio.get_running_loop().time
    end = None if budget_s is None else clock() + budget_s
    pauses = backoff.pauses()
    while True:
        try:
            return await once()
        except upon:
            pause_s = next(pauses)
            if end is not None and clock() + pause_s >= end:
                raise
        await asyncio.sleep(pause_s)
