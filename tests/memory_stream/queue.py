"""A durable pull consumer on the server's side: deliveries, pending acknowledgements, redeliveries."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from messaging.stream import topology as topo
from tests.memory_stream.agenda import Agenda
from tests.memory_stream.log import Log, Message
from tests.memory_stream.subjects import matches


@attrs.frozen
class Handed:
    """One delivery: the message, its delivery count, and how many messages wait behind it."""

    message: Message
    delivered: int
    waiting: int


@attrs.define(eq=False)
class Request:
    """A fetch request: it ends when it gets its first messages, up to `batch` of those that are there."""

    batch: int
    hand: Callable[[Handed], None]
    ended: asyncio.Event = attrs.Factory(asyncio.Event)


@attrs.define
class _Held:
    """A message that was delivered and not acknowledged."""

    count: int = 0
    order: int = 0
    until: float = 0.0


class Queue:
    """Delivers each matching message to one client at a time, and redelivers it after `ack_wait`."""

    def __init__(self, name: str, config: Mapping[str, Any], log: Log, agenda: Agenda) -> None:
        self.name = name
        self.config = dict(config)
        self._log = log
        self._agenda = agenda
        self._position = 0
        self._held: dict[int, _Held] = {}
        self._again: deque[int] = deque()
        self._delivered = (0, 0)
        self._requests: deque[Request] = deque()
        log.removed.append(lambda message: self._drop(message.sequence))
        log.stored.append(lambda _message: self.serve())

    def ask(self, request: Request, expires: float) -> None:
        """Add a fetch request, which waits until `expires` (Unix seconds)."""
        self._requests.append(request)
        self._agenda.at(expires, partial(self.end, request))
        self.serve()

    def end(self, request: Request) -> None:
        """End a fetch request."""
        request.ended.set()
        if request in self._requests:
            self._requests.remove(request)

    def serve(self) -> None:
        """Deliver available messages to the waiting requests, in their order."""
        while self._requests:
            request = self._requests[0]
            given = 0
            while given < request.batch and (handed := self._next()) is not None:
                request.hand(handed)
                given += 1
            if not given:
                return
            self.end(request)

    def _next(self) -> Handed | None:
        if self._again:
            return self._deliver(self._log.messages[self._again.popleft()])
        if len(self._held) >= self.config["max_ack_pending"]:
            return None
        for message in self._unseen():
            self._position = message.sequence
            return self._deliver(message)
        return None

    def _deliver(self, message: Message) -> Handed:
        held = self._held.setdefault(message.sequence, _Held())
        held.count += 1
        held.order = self._delivered[0] + 1
        self._delivered = (held.order, max(self._delivered[1], message.sequence))
        self._extend(message.sequence)
        return Handed(message, held.count, sum(1 for _ in self._unseen()))

    def _unseen(self) -> "list[Message]":
        pattern, position = self.config["filter_subject"], self._position
        return [
            one for number, one in self._log.messages.items() if number > position and matches(pattern, one.subject)
        ]

    def _extend(self, sequence: int) -> None:
        held = self._held[sequence]
        held.until = self._agenda.now + self.config["ack_wait"] / topo.NANOS

        def look() -> None:
            if self._held.get(sequence) is held and self._agenda.now >= held.until:
                self.again(sequence)

        self._agenda.at(held.until, look)

    def ack(self, sequence: int) -> None:
        """Acknowledge a message, also for a client whose delivery has timed out."""
        if sequence in self._held:
            self._drop(sequence)
            if self._log.config["retention"] == "workqueue":
                self._log.remove(sequence)
            self.serve()

    def again(self, sequence: int) -> None:
        """Redeliver a message, before new ones."""
        if sequence in self._held and sequence not in self._again:
            self._again.append(sequence)
            self.serve()

    def keep(self, sequence: int) -> None:
        """Restart the ack wait of a message."""
        if sequence in self._held:
            self._extend(sequence)

    def _drop(self, sequence: int) -> None:
        self._held.pop(sequence, None)
        if sequence in self._again:
            self._again.remove(sequence)

    def info(self) -> dict[str, Any]:
        """Return its state as CONSUMER.INFO does."""
        order, sequence = self._delivered
        if self._held:
            order, sequence = min(one.order for one in self._held.values()) - 1, min(self._held) - 1
        return {
            "stream_name": self._log.name,
            "name": self.name,
            "config": {"durable_name": self.name, "name": self.name, **self.config},
            "delivered": {"consumer_seq": self._delivered[0], "stream_seq": self._delivered[1]},
            "ack_floor": {"consumer_seq": order, "stream_seq": sequence},
            "num_ack_pending": len(self._held),
            "num_redelivered": sum(one.count > 1 for one in self._held.values()),
            "num_waiting": len(self._requests),
            "num_pending": len(self._unseen()),
        }
