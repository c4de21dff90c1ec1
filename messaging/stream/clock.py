"""Compares this process's clock with the stream's, and tells the time even while its own clock is wrong.

Deadlines and schedules are wall times, which other machines wrote. A process whose clock is an hour ahead would end
healthy messages as expired. So each process asks for the stream's time at its start and every second, and does not work
while the two differ by more than MAX_DIFFERENCE_S. What is under way goes on by `now`, which a wrong clock does not
reach: it follows the machine's steady clock from the last moment when the two agreed.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import attrs

from messaging.errors import StreamDown
from messaging.runtime.boot_clock import boot_time
from messaging.stream.interface import ApiError, Connection

MAX_DIFFERENCE_S = 2.0
_EVERY_S = 1.0
_STEP_S = 1.0
"""A wall clock that has moved against the steady one by more than this was set: it is not believed until compared."""

_ASKED = "STREAM.INFO.KV_SMS_LIMITS"
"""The smallest of the streams; its leader's answer carries that server's time."""


@attrs.frozen
class Comparison:
    """The stream's time, and ours right before the question and right after the answer (Unix seconds)."""

    before: float
    stream: float
    after: float

    @property
    def ahead_s(self) -> float:
        """How far our clock is surely ahead of the stream's: negative when it is behind, 0 when they may be equal."""
        if self.before > self.stream:
            return self.before - self.stream
        return min(0.0, self.after - self.stream)


def stream_time(answer: Mapping[str, Any]) -> float | None:
    """Read the server's time (Unix seconds) from an answer of its API; None when it has none that can be read."""
    try:
        return datetime.fromisoformat(answer["ts"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def sentence(ahead_s: float) -> str:
    """Say how a clock differs and what to do."""
    which = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"this machine's clock is {abs(ahead_s):.1f} s {which} the stream's, and at most {MAX_DIFFERENCE_S:.0f} s are "
        "allowed: correct the time (NTP) of this machine, or of the stream's servers"
    )


def wall_time() -> float:
    """Return this machine's time (Unix seconds), compared with nothing."""
    return time.time()


class StreamClock:
    """One process's clock. `ahead_s` is the last difference found; `right` says whether the process may work by it."""

    def __init__(
        self,
        connection: Connection,
        wall: Callable[[], float] = wall_time,
        steady: Callable[[], float] = boot_time,
    ) -> None:
        self._connection = connection
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._changed = asyncio.Event()
        self.ahead_s = 0.0

    @property
    def right(self) -> bool:
        """Whether the last comparison found no more than the allowed difference."""
        return abs(self.ahead_s) <= MAX_DIFFERENCE_S

    def now(self) -> float:
        """Return the time (Unix seconds): our clock's unless it is wrong or was set since the last comparison."""
        wall, expected = self._wall(), self._steady() + self._offset
        return wall if abs(wall - expected) <= _STEP_S else expected

    async def compare(self) -> None:
        """Ask for the stream's time; raises StreamDown, ApiError. Without a time in the answer nothing changes."""
        before = self._wall()
        answer = await self._connection.api(_ASKED)
        after, steady = self._wall(), self._steady()
        stream = stream_time(answer)
        if stream is None:
            return
        self.ahead_s = Comparison(before, stream, after).ahead_s
        self._offset = (after if self.right else stream) - steady
        self._changed.set()

    async def run(self) -> None:
        """Compare regularly until cancelled."""
        while True:
            with contextlib.suppress(StreamDown, ApiError):  # whoever needs the stream says that it is away
                await self.compare()
            await asyncio.sleep(_EVERY_S)

    async def changes(self) -> None:
        """Wait until the clocks have been compared again."""
        self._changed.clear()
        await self._changed.wait()
