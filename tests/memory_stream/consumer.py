"""A consumer of the memory stream, with the interface of `messaging.stream.consumer`."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from messaging.errors import StreamDown
from messaging.runtime.backoff import Backoff, retry
from messaging.stream.interface import Delivery
from tests.memory_stream.faults import ServerError
from tests.memory_stream.queue import Handed, Queue, Request

if TYPE_CHECKING:
    from tests.memory_stream.connection import MemoryConnection

_AWAY_S = 0.1
_ACK_UNANSWERED = Backoff(first_s=0.05, longest_s=1.0)


@attrs.define(eq=False)
class MemoryDelivery:
    """One delivery of a message."""

    handed: Handed
    _connection: "MemoryConnection"
    _queue: Queue
    _place: str
    _settled: bool = False

    @property
    def subject(self) -> str:
        """The subject it was published on."""
        return self.handed.message.subject

    @property
    def data(self) -> bytes:
        """The message's bytes."""
        return self.handed.message.data

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was published with."""
        return self.handed.message.headers

    @property
    def sequence(self) -> int:
        """Its sequence in the stream."""
        return self.handed.message.sequence

    @property
    def delivered(self) -> int:
        """How many times it was delivered, this delivery included."""
        return self.handed.delivered

    @property
    def waiting(self) -> int:
        """How many messages wait behind it."""
        return self.handed.waiting

    async def ack(self, budget_s: float = 10.0) -> bool:
        """Acknowledge until the server confirms; False when it has not within `budget_s`."""
        try:
            await retry(self._acked, _ACK_UNANSWERED, StreamDown, budget_s)
        except StreamDown:
            return False
        return True

    async def _acked(self) -> None:
        if not self._settled:
            await self._connection.do(f"ack {self._place}", lambda: self._queue.ack(self.sequence))
            self._settled = True

    async def ack_lightly(self) -> None:
        """Acknowledge without a confirmation."""
        await self._tell("ack_lightly", self._queue.ack)

    async def give_back(self) -> None:
        """Have the message redelivered at once, to any pod."""
        if not self._settled:
            self._settled = await self._tell("give_back", self._queue.again)

    async def keep(self) -> None:
        """Restart the ack wait."""
        if not self._settled:
            await self._tell("keep", self._queue.keep)

    async def _tell(self, what: str, effect: Callable[[int], None]) -> bool:
        """Send something that the server does not answer; False when the connection is down."""
        try:
            await self._connection.step(f"before {what} {self._place}")
        except StreamDown:
            return False
        effect(self.sequence)
        with contextlib.suppress(StreamDown):
            await self._connection.step(f"after {what} {self._place}")
        return True


class MemoryConsumer:
    """A durable pull consumer; messages that arrive after their fetch was cancelled are returned by the next fetch."""

    def __init__(self, connection: "MemoryConnection", stream: str, durable: str) -> None:
        self._connection = connection
        self._stream = stream
        self._durable = durable
        self._arrived: deque[MemoryDelivery] = deque()
        self._requests: list[Request] = []
        self._finished = False

    async def fetch(self, batch: int, wait_s: float = 1.0) -> list[Delivery]:
        """Fetch up to `batch` messages; an empty list when none came within `wait_s` or the server is away."""
        fetched: list[Delivery] = []
        try:
            await self._connection.step(f"before fetch {self._durable}")
            if not self._arrived and not self._finished:
                await self._ask(batch, wait_s)
            while self._arrived and len(fetched) < batch:
                fetched.append(self._arrived.popleft())
            await self._connection.step(f"after fetch {self._durable}")
        except (StreamDown, ServerError):
            if not fetched:
                await asyncio.sleep(_AWAY_S)
        return fetched

    async def _ask(self, batch: int, wait_s: float) -> None:
        stream = self._connection.stream
        queue = stream.queue(self._stream, self._durable)

        def hand(handed: Handed) -> None:
            self._arrived.append(MemoryDelivery(handed, self._connection, queue, self._stream))

        request = Request(batch, hand)
        self._requests = [*(one for one in self._requests if not one.ended.is_set()), request]
        queue.ask(request, stream.agenda.now + wait_s)
        stream.settle()
        await request.ended.wait()

    def lose(self) -> None:
        """End the requests under way: the connection was lost."""
        if (queue := self._connection.stream.queues.get(self._stream, {}).get(self._durable)) is not None:
            for request in self._requests:
                queue.end(request)

    def interrupt(self) -> None:
        """Let a running fetch return now."""
        for request in self._requests:
            request.ended.set()

    async def finish(self) -> None:
        """Ask for nothing more: a running fetch returns with what has arrived."""
        self._finished = True
        self.lose()

    async def close(self) -> None:
        """Stop fetching."""
        self.lose()
