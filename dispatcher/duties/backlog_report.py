"""Counts what waits, once for the whole fleet, and writes it where every process hears it.

Any number of coordinators run one; each counts only while it has heard of no other's count. Two that count at once do
no harm. While nobody counts, each process counts for itself (see `messaging.stream.fleet`).
"""

import asyncio
import random
import time

import structlog

from messaging.documents import Backlog
from messaging.errors import Unavailable
from messaging.stream.backlog import BacklogCounter
from messaging.stream.board import LimitsBoard
from messaging.stream.interface import ApiError, Connection

_log = structlog.get_logger(__name__)

EVERY_S = 0.5
_LONGEST_S, _TIMES_LONGER = 1.0, 40
_OTHERS_S = 1.5
_TTL_S = 5


class BacklogReport:
    """The counts of one coordinator, whose process is named `by`."""

    def __init__(self, connection: Connection, board: LimitsBoard, by: str) -> None:
        self._board = board
        self._by = by
        self._counter = BacklogCounter(connection, by)
        self._heard_at = float("-inf")
        self._reported_at = float("-inf")

    async def run(self) -> None:
        """Count until cancelled."""
        async with self._board.on_backlog(self._hear):
            await self._pause(0.0)
            while True:
                began = time.monotonic()
                try:
                    await self.report()
                except (Unavailable, ApiError) as exc:
                    _log.debug("backlog not counted", error=str(exc))
                await self._pause(time.monotonic() - began)

    async def _pause(self, took_s: float) -> None:
        """Pause before the next count: longer where a count takes long, as with hundreds of providers."""
        pause_s = min(_LONGEST_S, max(EVERY_S, _TIMES_LONGER * took_s))
        await asyncio.sleep(pause_s * random.uniform(0.9, 1.0))  # noqa: S311

    def _hear(self, counted: Backlog) -> None:
        """Leave it to another coordinator; of two that both count, the one whose name comes later."""
        now = time.monotonic()
        if counted.by < self._by or (counted.by != self._by and now >= self._reported_at + _OTHERS_S):
            self._heard_at = now

    async def report(self) -> None:
        """Count and write, unless another coordinator does; raises StreamDown."""
        if time.monotonic() >= self._heard_at + _OTHERS_S:
            counted = await self._counter.count()
            self._reported_at = time.monotonic()
            await self._board.put_backlog(counted, _TTL_S)
