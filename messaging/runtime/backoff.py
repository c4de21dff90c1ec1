"""Retries with exponential backoff."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import attrs

_T = TypeVar("_T")


@attrs.frozen
class Backoff:
    """How long to wait before each retry: `first_s`, then twice as long each time, at most `longest_s`."""

    first_s: float
    longest_s: float

    def pauses(self) -> Iterator[float]:
        """Yield the waits in seconds, endlessly."""
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
    """Repeat `once` while it raises one of `upon`; any other exception is raised at once.

    With `budget_s`, no try starts after so many seconds: the last exception is raised as soon as the next wait would
    exceed them. The first try is always made. With None, it retries until it succeeds or the task is cancelled.
    """
    clock = asyncio.get_running_loop().time
    end = None if budget_s is None else clock() + budget_s
    pauses: Iterator[float] | None = None  # made at the first failure: nearly every first try succeeds
    while True:
        try:
            return await once()
        except upon:
            pauses = pauses or backoff.pauses()
            pause_s = next(pauses)
            if end is not None and clock() + pause_s >= end:
                raise
        await asyncio.sleep(pause_s)
