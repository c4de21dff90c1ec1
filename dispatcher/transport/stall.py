"""Tells a provider that does not answer from a process that was not there to read the answer.

A process that is stopped, frozen or starved of CPU runs its timers late, while answers lie unread in its sockets.
"""

import asyncio
from typing import Self

_BEAT_S = 0.25
LATE_S = 0.1
"""A timer that fires later than this fires too late to be believed."""

_READ_S = 0.25
_READINGS = 3


class StallWatch:
    """Notes when this process last stood still for at least `stall_s`; costs four wake-ups a second."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._expected_at = float("inf")
        self._ended_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the running event loop."""
        loop = asyncio.get_running_loop()
        self._expected_at = loop.time() + _BEAT_S
        self._timer = loop.call_at(self._expected_at, self._beat)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        self._expected_at = float("inf")

    def _beat(self) -> None:
        self._look()
        self.start()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._expected_at >= self._stall_s:
            self._ended_at = now

    def stalled_since(self, moment: float) -> bool:
        """Whether the process stood still at some time after `moment` (the event loop's time)."""
        self._look()  # after a stall, an answer may be read before the beat that is due
        return self._ended_at >= moment


class CallTimer:
    """The time-out of one call. One that fires late first lets the event loop read what has arrived meanwhile."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._readings = _READINGS

    async def __aenter__(self) -> Self:
        """Begin to measure."""
        await self._limit.__aenter__()
        self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop; raises TimeoutError when the call was ended."""
        self.pause()
        await self._limit.__aexit__(*error)  # type: ignore[arg-type]

    def start(self) -> None:
        """Measure from now."""
        self.pause()
        loop = asyncio.get_running_loop()
        due = loop.time() + self._timeout_s
        self._timer = loop.call_at(due, self._fire, due)

    def pause(self) -> None:
        """Do not measure."""
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - due > LATE_S and self._readings:
            self._readings -= 1
            again = loop.time() + _READ_S
            self._timer = loop.call_at(again, self._fire, again)
        else:
            self._limit.reschedule(loop.time())

    def expired(self) -> bool:
        """Whether the time-out ended the call."""
        return self._limit.expired()
