"""Decides when requests are written to the server: a single one at once, many together.

Each separate write wakes the server, and each separate answer wakes us: for one small message that costs more than
everything else that is done for it. So requests in quick succession wait for each other, up to 2 ms. Where batches stay
too small (callers who wait for each answer before the next call), requests do not wait.
"""

import asyncio

_INTERVAL_S = 0.002
"""The least time between two writes while batching."""
_MIN_BATCH = 3
"""A batch with fewer requests than this is not worth the wait."""
_MAX_SMALL_BATCHES = 3
"""This many batches in a row that were too small end batching."""
_RETRY_EVERY = 64
"""While batching has ended, one request in this many tries it again."""


class WriteBatching:
    """Lets each request of one connection wait for its write; requests written together keep their order."""

    def __init__(self) -> None:
        self._written_at = float("-inf")
        self._waiting: list[asyncio.Future[None]] = []
        self._small_batches = 0
        self._unbatched = 0

    async def wait(self) -> None:
        """Return when it is time to write."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            now = loop.time()
            if now >= self._written_at + _INTERVAL_S or not self._batches():
                self._written_at = now
                return
            loop.call_at(self._written_at + _INTERVAL_S, self._release)
        released: asyncio.Future[None] = loop.create_future()
        self._waiting.append(released)
        await released

    def _batches(self) -> bool:
        if self._small_batches < _MAX_SMALL_BATCHES:
            return True
        self._unbatched = (self._unbatched + 1) % _RETRY_EVERY
        return self._unbatched == 0

    def _release(self) -> None:
        self._written_at = asyncio.get_running_loop().time()
        batch, self._waiting = self._waiting, []
        small = len(batch) < _MIN_BATCH
        self._small_batches = min(self._small_batches + 1, _MAX_SMALL_BATCHES) if small else 0
        for released in batch:
            if not released.done():  # its task may have been cancelled
                released.set_result(None)
