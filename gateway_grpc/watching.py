"""WatchStatus: the status of a message now and after every change."""

import time
from collections.abc import AsyncIterator, Callable, Hashable

from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.answers import shortened
from gateway_grpc.event_hints import EventHints
from gateway_grpc.limits import CallLimits
from gateway_grpc.lookup import Found, Lookup
from gateway_grpc.turns import Turns
from messaging.errors import CallTooLong, Draining, NotFound
from messaging.model import SETTLED_STATES, address_of

_AT_ONCE, _EACH_CYCLE, _BESIDE_CALLS = 32, 16, 2
"""Look-ups of all watchers: in progress, begun in a cycle of the event loop, and begun in one beside single calls."""


class Watching:
    """All WatchStatus calls of one gateway process; each may take `longest_s`. `closed` says whether it stops."""

    def __init__(
        self, lookup: Lookup, hints: EventHints, closed: Callable[[], bool], longest_s: float, limits: CallLimits
    ) -> None:
        self._lookup = lookup
        self._hints = hints
        self._closed = closed
        self._longest_s = longest_s
        self._turns = Turns(_AT_ONCE, lambda: _BESIDE_CALLS if limits.unary.taken else _EACH_CYCLE)

    async def serve(self, client: str, message_id: str, connection: Hashable) -> AsyncIterator[api.WatchStatusResponse]:
        """Yield the status now and after every change, until it is settled; raises Draining, CallTooLong."""
        try:
            address = address_of(client, message_id)
        except ValueError as exc:
            raise NotFound("message_id") from exc
        previous: Found | None = None
        end = time.monotonic() + self._longest_s
        with self._hints.watching(address) as watched:
            while True:
                watched.changed.clear()
                async with self._turns.turn(connection):
                    found = await self._lookup.find(client, message_id=message_id)
                watched.seen(found.last)
                if previous is None or found.newer_than(previous):
                    previous = found
                    yield api.WatchStatusResponse(status=shortened(found.status))
                    if found.status.state in SETTLED_STATES:
                        return
                if self._closed():
                    raise Draining
                if time.monotonic() > end:
                    raise CallTooLong("open", self._longest_s)
                await self._hints.wait(watched)
