"""Keeps a pod's breaker in sync with the state that all pods of its provider share."""

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any

import attrs
import structlog

from dispatcher.breaker.breaker import Breaker
from dispatcher.breaker.refusals import Refusals
from dispatcher.breaker.silence import Silence
from dispatcher.breaker.throttling import LONGEST_PAUSE_S, Throttling
from dispatcher.rate.pacer import Pacer
from messaging.documents import REFUSED, THROTTLED, BreakerState, Mode, Pause
from messaging.errors import Unavailable
from messaging.runtime.boot_clock import boot_time
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Changes

_log = structlog.get_logger(__name__)

_REFRESH_EVERY_S = 0.8
"""Every pod has the shared state within a second, even when a hint is lost."""

_REFRESH_WATCHED_S = 30.0
"""How often a closed breaker is read while its process reads the newest revisions of all, and tells by `note_newest`.
"""


class BreakerSync:
    """One pod's breaker and the pauses that the provider asks for; both are shared by all pods of the provider."""

    def __init__(
        self,
        board: BreakerBoard,
        provider: str,
        breaker: Breaker,
        pacer: Pacer,
        silence: Silence | None = None,
        *,
        watched: bool = False,
    ) -> None:
        self._board = board
        self._provider = provider
        self._breaker = breaker
        self._pacer = pacer
        self._silence = silence or Silence()
        self._was_silent = False
        self._watched = watched
        self._changes = Changes()
        self._refusals = Refusals(breaker.limits.refusals)
        self._throttling = Throttling()
        self._revision = 0
        self._pause_revision = 0
        self._lock = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> BreakerState:
        """The shared state, as this pod last read or wrote it."""
        return self._breaker.state

    def admits(self) -> bool:
        """Whether a call may start now."""
        return self._breaker.admits() and not self.silent

    @property
    def silent(self) -> bool:
        """Whether the provider has stopped answering this pod, and its calls have not timed out yet."""
        silent = self._silence.is_silent(boot_time())
        if silent is not self._was_silent:
            self._was_silent = silent
            if silent:
                _log.warning("the provider is silent: nothing is sent until it answers", provider=self._provider)
            else:
                _log.warning("the provider's silence has ended", provider=self._provider)
        return silent

    def begin(self) -> int:
        """Note that a call starts; return the generation to pass with its answer."""
        return self._breaker.begin()

    def abandon(self, generation: int) -> None:
        """Note that a call announced by `begin` was not made."""
        self._breaker.abandon(generation)

    async def run(self) -> None:
        """Follow the shared state until cancelled: read it after each notification of a write, and regularly."""
        async with self._board.changes(self._provider) as changes:
            self._changes = changes
            while True:
                try:
                    await self.refresh()
                except Unavailable as exc:
                    _log.debug("breaker not refreshed", error=str(exc))
                await changes.wait(self._refresh_after_s())

    def _refresh_after_s(self) -> float:
        return _REFRESH_WATCHED_S if self._watched and self.state.mode is Mode.CLOSED else _REFRESH_EVERY_S

    def note_newest(self, revision: int) -> None:
        """Note the newest revision of this provider's breaker and pause, so that a newer one is read at once."""
        if revision > max(self._revision, self._pause_revision):
            self._changes.notify()

    async def refresh(self) -> None:
        """Read the shared state and the pause, and write a change that is due; raises Unavailable."""
        async with self._lock:
            await self._adopt()
            if (due := self._breaker.due_change(time.monotonic())) is not None:
                await self._write(due)
        revision, pause = await self._board.pause(self._provider)
        if revision > self._pause_revision:
            if pause is None:
                self._pacer.resume()
            else:
                self._pacer.pause(min(pause.left_s(time.time()), LONGEST_PAUSE_S))
        self._pause_revision = max(revision, self._pause_revision)

    async def _adopt(self) -> None:
        revision, state = await self._board.breaker(self._provider)
        if revision >= self._revision:
            self._take_over(state, revision)

    async def _write(self, state: BreakerState) -> None:
        if state.mode is not Mode.CLOSED:
            since = time.time() if self.state.mode is Mode.CLOSED else self.state.since
            state = attrs.evolve(state, since=since)
        stored = await self._board.set_breaker(self._provider, state, self._revision)
        if stored is None:
            await self._adopt()
            return
        self._take_over(state, stored)
        log = _log.warning if state.mode is Mode.OPEN else _log.info
        log("breaker", provider=self._provider, state=str(state.mode), reason=state.reason or None)

    def _take_over(self, state: BreakerState, revision: int) -> None:
        if state.mode is Mode.CLOSED and self.state.mode is not Mode.CLOSED:
            self._refusals.accepted()  # a probe was taken, or an operator has decided
        self._revision = revision
        self._breaker.adopt(state, time.monotonic(), time.time())

    def refused(self, generation: int, recipient: str, code: str, message_id: str) -> bool:
        """Count a message that was refused for good; True when everything is, so that the message must not end."""
        state = self.state
        if state.cause == REFUSED and state.mode is not Mode.CLOSED:
            self._open(self._breaker.open(generation, state.reason, REFUSED))
            return True
        why = self._refusals.refused(recipient, code, message_id)
        if not why:
            self.record(generation, failed=None)
            return False
        if (change := self._breaker.open(generation, why, REFUSED)) is not None and state.mode is Mode.CLOSED:
            failed = self._refusals.take_failed()
            if failed:
                _log.error("everything is refused", provider=self._provider, reason=why, failed_before=failed)
        self._open(change)
        return True

    def throttled(self, generation: int, message_id: str, pause_s: float, code: str, *, first_time: bool) -> None:
        """Pause the lane, or open the breaker, for as long as the provider asks, if it means more than one message."""
        pause_s = min(pause_s, self._breaker.limits.longest_pause_s)
        if self.state.mode is Mode.HALF_OPEN:
            self._open_for(generation, pause_s, code)
            return
        lane = self._throttling.throttled(message_id, pause_s, time.monotonic(), first_time=first_time)
        if lane.opens:
            self._open_for(generation, pause_s, code)
        elif lane.seconds:
            self.pause(lane.seconds, f"throttled with code {code or 'none'}")

    def _open_for(self, generation: int, pause_s: float, code: str) -> None:
        until = time.time() + max(pause_s, self._breaker.limits.cooldown_s)
        clock = time.strftime("%H:%M:%S UTC", time.gmtime(until))
        reason = f"throttled with code {code or 'none'}: until {clock}, the provider wants {pause_s:.0f} s"
        self._open(self._breaker.open(generation, reason, THROTTLED, until))

    def _open(self, change: BreakerState | None) -> None:
        if change is not None:
            self._spawn(self._write_change(change))

    def record(self, generation: int, *, failed: bool | None, code: str = "") -> None:
        """Count the answer to a call. A change of state is written at once, in a task of its own."""
        if failed is False:
            self._refusals.accepted()
            self._throttling.accepted(time.monotonic())
        change = self._breaker.record(generation, time.monotonic(), failed=failed, code=code)
        if change is not None:
            self._spawn(self._write_change(change))

    async def _write_change(self, change: BreakerState) -> None:
        try:
            async with self._lock:
                if change.generation == self.state.generation + 1:
                    await self._write(change)
        except Unavailable as exc:
            _log.warning("breaker not written", provider=self._provider, error=str(exc))

    def pause(self, seconds: float, reason: str) -> None:
        """Pause all sends to the provider: in this pod at once, in the others when they next read the shared pause."""
        self._pacer.pause(seconds)
        self._spawn(self._share_pause(Pause(seconds, time.time() + seconds, reason)))

    async def _share_pause(self, pause: Pause) -> None:
        try:
            revision = await self._board.set_pause(self._provider, pause, math.ceil(pause.seconds) + 1)
        except Unavailable as exc:
            _log.warning("pause not shared", provider=self._provider, error=str(exc))
        else:
            self._pause_revision = max(revision, self._pause_revision)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="breaker-write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
