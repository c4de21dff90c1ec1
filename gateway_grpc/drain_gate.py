"""Where every call comes in: open until the server is about to stop.

grpc ends a call that meets a server in the moment of its stop as CANCELLED, which does not tell its caller to come
again. So calls are held before that moment: who waits for an answer sends nothing new, while who is refused at once may
come again right then. When every connection has been told to close (GOAWAY), what is held is refused as `Draining`, and
comes again to another gateway.
"""

import asyncio
import contextlib
import time
from typing import Self

from messaging.errors import Draining

_LOOK_EVERY_S = 0.01


class DrainGate:
    """Counts the calls inside, as a context of each. Open at first, then `hold`, then `refuse`."""

    def __init__(self) -> None:
        self.holds = False
        self._inside = 0
        self._came = 0
        self._refuses = asyncio.Event()
        self._emptied: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._inside += 1
        self._came += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        if self._emptied is not None and not self._inside:
            self._emptied.set()

    async def refused(self) -> None:
        """Hold a call that came too late, then raise Draining."""
        await self._refuses.wait()
        raise Draining

    def hold(self) -> None:
        """Hold what comes from now on."""
        self.holds = True

    async def quiet(self, looks: int, within_s: float) -> None:
        """Return when nothing has come for so many looks, or the time is over.

        Looks are counted, not time: each lets in what waits at the door of a process that is late itself.
        """
        end = time.monotonic() + within_s
        came, quiet = self._came, 0
        while quiet < looks and time.monotonic() < end:
            await asyncio.sleep(_LOOK_EVERY_S)
            quiet = quiet + 1 if came == self._came else 0
            came = self._came

    def refuse(self) -> None:
        """Refuse what is held, and whatever comes."""
        self._refuses.set()

    async def empty(self, within_s: float) -> None:
        """Return when no call is inside, or the time is over."""
        self._emptied = asyncio.Event()
        if self._inside:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._emptied.wait()
