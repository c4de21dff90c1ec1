"""Tells those who watch a message when an event of it is published, so that nobody has to ask again and again.

A hint may be lost, or come before the event is stored: the stream's leader decides, and slow looks find what was
missed. While nobody watches, nothing is subscribed to. While somebody does, this process gets every event of the fleet.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator

import attrs
from google.protobuf.message import DecodeError
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging.errors import StreamDown
from messaging.model import Address
from messaging.stream import topology as topo
from messaging.stream.interface import Connection

_AGAIN_S = 1.0
_EARLY_S = (0.02, 0.1, 0.5, 2.0)
"""When to look again for an event that was announced and is not stored yet."""


@attrs.define(eq=False)
class Watched:
    """One watch of a message; `nonce` is that of the newest event that was announced and not seen yet."""

    changed: asyncio.Event = attrs.Factory(asyncio.Event)
    nonce: str | None = None
    early: int = 0

    def seen(self, last: wire.Event | None) -> None:
        """Note what a look has found."""
        if last is not None and last.nonce == self.nonce:
            self.nonce = None


class EventHints:
    """The watches of one process. Together they look slowly `looks_per_s` times, and each after `least_s` at least."""

    def __init__(self, connection: Connection, *, looks_per_s: float = 50.0, least_s: float = 1.0) -> None:
        self._connection = connection
        self._looks_per_s = looks_per_s
        self._least_s = least_s
        self._watches: defaultdict[str, set[Watched]] = defaultdict(set)
        self._count = 0
        self._some, self._none = asyncio.Event(), asyncio.Event()

    @contextlib.contextmanager
    def watching(self, address: Address) -> Iterator[Watched]:
        """Watch a message meanwhile."""
        subject, watched = topo.event_subject(address), Watched()
        self._watches[subject].add(watched)
        self._count += 1
        self._none.clear()
        self._some.set()
        try:
            yield watched
        finally:
            self._count -= 1
            self._watches[subject].discard(watched)
            if not self._watches[subject]:
                del self._watches[subject]
            if not self._count:
                self._some.clear()
                self._none.set()

    async def wait(self, watched: Watched) -> None:
        """Return when there may be something new."""
        pause_s = max(self._least_s, self._count / self._looks_per_s)
        if watched.nonce is not None and watched.early < len(_EARLY_S):
            pause_s = min(pause_s, _EARLY_S[watched.early])
            watched.early += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await watched.changed.wait()

    def wake_all(self) -> None:
        """Let everyone look again now."""
        for watches in self._watches.values():
            for watched in watches:
                watched.changed.set()

    async def run(self) -> None:
        """Follow the events while anyone watches, until cancelled."""
        while True:
            await self._some.wait()
            try:
                async with self._connection.listening(topo.EVERY_EVENT, self._notify):
                    self.wake_all()  # for what happened before
                    await self._none.wait()
            except StreamDown:
                await asyncio.sleep(_AGAIN_S)

    def _notify(self, subject: str, data: bytes) -> None:
        watches = self._watches.get(subject)
        if not watches:
            return
        try:
            nonce = wire.Event.FromString(data).nonce
        except DecodeError:
            nonce = ""
        for watched in watches:
            watched.nonce, watched.early = nonce, 0
            watched.changed.set()
