"""Keeps a pod's breaker in step with the one that all pods of its provider share."""

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from dispatcher.breaker.breaker import Breaker
from dispatcher.rate.pacer import Pacer
from messaging.documents import BreakerState, Mode
from messaging.errors import Unavailable
from messaging.stream.board import BreakerBoard

_log = structlog.get_logger(__name__)

_EVERY_S = 0.8
"""However a hint is lost: every pod agrees within a second."""


class BreakerSync:
    """One pod's breaker, and the pauses that its provider asks for, both shared with the provider's other pods."""

    def __init__(self, board: BreakerBoard, provider: str, breaker: Breaker, pacer: Pacer) -> None:
        self._board = board
        self._provider = provider
        self._breaker = breaker
        self._pacer = pacer
        self._revision = 0
        self._pause_revision = 0
        self._lock = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> BreakerState:
        """The shared state as far as this pod knows."""
        return self._breaker.state

    def admits(self) -> bool:
        """Whether a call may begin now."""
        return self._breaker.admits()

    def begin(self) -> int:
        """Note that a call begins; gives the generation that its answer must name."""
        return self._breaker.begin()

    def abandon(self, generation: int) -> None:
        """Note that a call which had begun was never made."""
        self._breaker.abandon(generation)

    async def run(self) -> None:
        """Follow the shared state until cancelled: read it when somebody wrote, and regularly."""
        async with self._board.changes(self._provider) as changes:
            while True:
                try:
                    await self.refresh()
                except Unavailable as exc:
                    _log.debug("breaker not refreshed", error=str(exc))
                await changes.wait(_EVERY_S)

    async def refresh(self) -> None:
        """Read the shared state and what time asks for; raises StreamDown."""
        async with self._lock:
            await self._adopt()
            if (wanted := self._breaker.wanted(time.monotonic())) is not None:
                await self._write(wanted)
        revision, pause_s = await self._board.pause(self._provider)
        if pause_s is not None and revision > self._pause_revision:
            self._pacer.pause(pause_s)
        self._pause_revision = max(revision, self._pause_revision)

    async def _adopt(self) -> None:
        revision, state = await self._board.breaker(self._provider)
        if revision >= self._revision:
            self._revision = revision
            self._breaker.adopt(state, time.monotonic())

    async def _write(self, wanted: BreakerState) -> None:
        stored = await self._board.set_breaker(self._provider, wanted, self._revision)
        if stored is None:
            await self._adopt()
            return
        self._revision = stored
        self._breaker.adopt(wanted, time.monotonic())
        level = _log.warning if wanted.mode is Mode.OPEN else _log.info
        level("breaker", provider=self._provider, state=str(wanted.mode), reason=wanted.reason or None)

    def record(self, generation: int, *, failed: bool | None) -> None:
        """Count the answer to a call; a change of state is written at once, beside the caller."""
        wanted = self._breaker.record(generation, time.monotonic(), failed=failed)
        if wanted is not None:
            self._spawn(self._change(wanted))

    async def _change(self, wanted: BreakerState) -> None:
        try:
            async with self._lock:
                if wanted.generation == self.state.generation + 1:
                    await self._write(wanted)
        except Unavailable as exc:
            _log.warning("breaker not written", provider=self._provider, error=str(exc))

    def pause(self, seconds: float) -> None:
        """Hold the whole lane, here at once and in the provider's other pods as soon as they look."""
        self._pacer.pause(seconds)
        self._spawn(self._spread(seconds))

    async def _spread(self, seconds: float) -> None:
        try:
            revision = await self._board.set_pause(self._provider, seconds, math.ceil(seconds) + 1)
        except Unavailable as exc:
            _log.warning("pause not spread", provider=self._provider, error=str(exc))
        else:
            self._pause_revision = max(revision, self._pause_revision)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="breaker-write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
