"""Drawing from the memory stream: what `messaging.stream.consumer` offers."""

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
    """One message as drawn."""

    handed: Handed
    _connection: "MemoryConnection"
    _queue: Queue
    _place: str
    _settled: bool = False

    @property
    def subject(self) -> str:
        """Where it was published."""
        return self.handed.message.subject

    @property
    def data(self) -> bytes:
        """What it holds."""
        return self.handed.message.data

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was published with."""
        return self.handed.message.headers

    @property
    def sequence(self) -> int:
        """Where it stands in its stream."""
        return self.handed.message.sequence

    @property
    def delivered(self) -> int:
        """How many times it was drawn."""
        return self.handed.delivered

    @property
    def waiting(self) -> int:
        """How many messages wait behind it."""
        return self.handed.waiting

    async def ack(self, budget_s: float = 10.0) -> bool:
        """Acknowledge and wait for the server's word, again and again; False when `budget_s` has gone without one."""
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
        """Acknowledge without waiting for the server's word."""
        await self._tell("ack_lightly", self._queue.ack)

    async def give_back(self) -> None:
        """Let another pod have it at once."""
        if not self._settled:
            self._settled = await self._tell("give_back", self._queue.again)

    async def keep(self) -> None:
        """Tell the server that work goes on."""
        if not self._settled:
            await self._tell("keep", self._queue.keep)

    async def _tell(self, what: str, effect: Callable[[int], None]) -> bool:
        """Say something to the server that it does not answer; False when it was known to be away."""
        try:
            await self._connection.step(f"before {what} {self._place}")
        except StreamDown:
            return False
        effect(self.sequence)
        with contextlib.suppress(StreamDown):
            await self._connection.step(f"after {what} {self._place}")
        return True


class MemoryConsumer:
    """A durable pull consumer; what a fetch that was ended had asked for may still come, and is given to the next."""

    def __init__(self, connection: "MemoryConnection", stream: str, durable: str) -> None:
        self._connection = connection
        self._stream = stream
        self._durable = durable
        self._arrived: deque[MemoryDelivery] = deque()
        self._requests: list[Request] = []

    async def fetch(self, batch: int, wait_s: float = 1.0) -> list[Delivery]:
        """Draw up to `batch` messages; an empty list when none came within `wait_s` or the server is away."""
        drawn: list[Delivery] = []
        try:
            await self._connection.step(f"before fetch {self._durable}")
            if not self._arrived:
                await self._ask(batch, wait_s)
            while self._arrived and len(drawn) < batch:
                drawn.append(self._arrived.popleft())
            await self._connection.step(f"after fetch {self._durable}")
        except (StreamDown, ServerError):
            if not drawn:
                await asyncio.sleep(_AWAY_S)
        return drawn

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
        """Lose the server: it hands nothing over any more."""
        if (queue := self._connection.stream.queues.get(self._stream, {}).get(self._durable)) is not None:
            for request in self._requests:
                queue.end(request)

    async def close(self) -> None:
        """Stop drawing."""
        self.lose()
