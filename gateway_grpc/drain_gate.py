"""Holds, and then refuses, the calls that arrive while the server is about to stop.

grpc ends a call that arrives at the moment of the stop as CANCELLED, which does not tell the caller to try again. So
calls are held before that moment; refused at once, a caller could retry at this same gateway. When every connection has
been told to close (GOAWAY), the held calls are refused as `Draining`, and their callers retry at another gateway.
"""

import asyncio
import contextlib
import time
from typing import Self

from messaging.errors import Draining

_POLL_S = 0.01


class DrainGate:
    """Counts calls: each one is a context of it. It is open at first, then `hold`, then `refuse`."""

    def __init__(self) -> None:
        self.holding = False
        self._active = 0
        self._arrived = 0
        self._refusing = asyncio.Event()
        self._no_calls: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._active += 1
        self._arrived += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._active -= 1
        if self._no_calls is not None and not self._active:
            self._no_calls.set()

    async def wait_and_refuse(self) -> None:
        """Hold this call until calls are refused, then raise Draining."""
        await self._refusing.wait()
        raise Draining

    def hold(self) -> None:
        """Hold the calls that arrive from now on."""
        self.holding = True

    async def wait_until_quiet(self, polls: int, timeout_s: float) -> None:
        """Return when no call has arrived in so many polls, or after `timeout_s`.

        Polls are counted instead of time: when the process itself is late, each poll lets it take waiting calls first.
        """
        end = time.monotonic() + timeout_s
        arrived, quiet = self._arrived, 0
        while quiet < polls and time.monotonic() < end:
            await asyncio.sleep(_POLL_S)
            quiet = quiet + 1 if arrived == self._arrived else 0
            arrived = self._arrived

    def refuse(self) -> None:
        """Refuse the held calls and all later ones."""
        self._refusing.set()

    async def wait_until_empty(self, timeout_s: float) -> None:
        """Return when no call is active, or after `timeout_s`."""
        self._no_calls = asyncio.Event()
        if self._active:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._no_calls.wait()
