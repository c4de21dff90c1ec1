"""WatchStatus: the status of a message now and after every change."""

import time
from collections.abc import AsyncIterator, Callable

from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.answers import shortened
from gateway_grpc.event_hints import EventHints
from gateway_grpc.lookup import Found, Lookup
from messaging.errors import CallTooLong, Draining, NotFound
from messaging.model import SETTLED_STATES, address_of


class Watching:
    """All WatchStatus calls of one gateway process; each may take `longest_s`. `closed` says whether it stops."""

    def __init__(self, lookup: Lookup, hints: EventHints, closed: Callable[[], bool], longest_s: float) -> None:
        self._lookup = lookup
        self._hints = hints
        self._closed = closed
        self._longest_s = longest_s

    async def serve(self, client: str, message_id: str) -> AsyncIterator[api.WatchStatusResponse]:
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
