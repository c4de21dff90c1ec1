"""A provider's breaker and pauses, shared by its pods through a bucket."""

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from dispatcher.breaker.breaker import Breaker, Mode, Shared
from dispatcher.rate.pacer import Pacer
from messaging.errors import Unavailable
from messaging.stream.buckets import Bucket
from messaging.stream.fleet import breaker_key

_log = structlog.get_logger(__name__)

_EVERY_S = 0.8
"""However a hint is lost: every pod agrees within a second."""


class BreakerSync:
    """Keeps the pod's breaker in step with the shared one, and spreads a provider's Retry-After to its other pods."""

    def __init__(self, bucket: Bucket, provider: str, breaker: Breaker, pacer: Pacer) -> None:
        self._bucket = bucket
        self._provider = provider
        self._pacer = pacer
        self._revision = 0
        self._pause_revision = 0
        self._lock = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()
        self.breaker = breaker

    async def run(self) -> None:
        """Follow the shared state until cancelled: read it when somebody wrote, and regularly."""
        async with self._bucket.hints(f"*.{self._provider}") as hints:
            while True:
                try:
                    await self.refresh()
                except Unavailable as exc:
                    _log.debug("breaker not refreshed", error=str(exc))
                await hints.rest(_EVERY_S)

    async def refresh(self) -> None:
        """Read the shared state and what time asks for; raises StreamDown."""
        async with self._lock:
            await self._adopt()
            if (wanted := self.breaker.wanted(time.monotonic())) is not None:
                await self._write(wanted)
        revision, document = await self._bucket.get(f"pause.{self._provider}")
        if document is not None and revision > self._pause_revision:
            self._pacer.pause(float(document["pause_s"]))
        self._pause_revision = max(revision, self._pause_revision)

    async def _adopt(self) -> None:
        revision, document = await self._bucket.get(breaker_key(self._provider))
        if revision >= self._revision:
            self._revision = revision
            self.breaker.adopt(Shared.from_document(document), time.monotonic())

    async def _write(self, wanted: Shared) -> None:
        stored = await self._bucket.compare_and_set(breaker_key(self._provider), wanted.to_document(), self._revision)
        if stored is None:
            await self._adopt()
            return
        self._revision = stored
        self.breaker.adopt(wanted, time.monotonic())
        level = _log.warning if wanted.state is Mode.OPEN else _log.info
        level("breaker", provider=self._provider, state=str(wanted.state), reason=wanted.reason or None)

    def record(self, generation: int, *, failed: bool | None) -> None:
        """Count the answer to a call; a change of state is written at once, beside the caller."""
        wanted = self.breaker.record(generation, time.monotonic(), failed=failed)
        if wanted is not None:
            self._spawn(self._change(wanted))

    async def _change(self, wanted: Shared) -> None:
        try:
            async with self._lock:
                if wanted.generation == self.breaker.shared.generation + 1:
                    await self._write(wanted)
        except Unavailable as exc:
            _log.warning("breaker not written", provider=self._provider, error=str(exc))

    def pause(self, seconds: float) -> None:
        """Hold the whole lane, here at once and in the provider's other pods as soon as they look."""
        self._pacer.pause(seconds)
        self._spawn(self._spread(seconds))

    async def _spread(self, seconds: float) -> None:
        try:
            document = {"pause_s": seconds}
            revision = await self._bucket.put(f"pause.{self._provider}", document, ttl_s=math.ceil(seconds) + 1)
        except Unavailable as exc:
            _log.warning("pause not spread", provider=self._provider, error=str(exc))
        else:
            self._pause_revision = max(revision, self._pause_revision)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="guard-write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
