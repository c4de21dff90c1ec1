"""Drawing from a provider's lanes: little ahead, urgent first, and no lane starved."""

import asyncio
from collections import deque
from collections.abc import Mapping

import attrs

from dispatcher.work.job import Job
from messaging.model import Lane
from messaging.routing import ProviderFacts, Rotation
from messaging.stream.interface import Consumer, Delivery

SHARES: dict[Lane, int] = {Lane.OTP: 6, Lane.NORMAL: 3, Lane.BULK: 1}
"""Guaranteed parts of the rate while all three lanes have work; what one does not use goes to the others."""

PREFETCH = 8
"""Messages held ahead for each lane: more would let drawn bulk delay an OTP."""

_FETCH_S = 1.0
LAST_FETCH_S = _FETCH_S + 0.2
"""After `stop`, what a fetch under way still brings has arrived within this time."""


@attrs.frozen(eq=False)
class Drawn:
    """A message whose turn it is; `job` is there once it has been read."""

    lane: Lane
    delivery: Delivery
    job: Job | None = None


class Intake:
    """Fills a small buffer for each lane, hands out the next message by shares, and knows all that the pod holds."""

    def __init__(self, consumers: Mapping[Lane, Consumer], prefetch: int = PREFETCH) -> None:
        self._consumers = consumers
        self._prefetch = prefetch
        self._buffers: dict[Lane, deque[Drawn]] = {lane: deque() for lane in consumers}
        self._behind: dict[Lane, int] = dict.fromkeys(consumers, 0)
        self._facts = {lane: ProviderFacts(lane, SHARES[lane]) for lane in consumers}
        self._turns = Rotation()
        self._held: set[Delivery] = set()
        self._filled = asyncio.Event()
        self._room = {lane: asyncio.Event() for lane in consumers}
        self.stopping = False

    @property
    def waiting(self) -> int:
        """About how many messages wait, in the buffers and behind them on the stream."""
        return sum(map(len, self._buffers.values())) + sum(self._behind.values())

    @property
    def held(self) -> set[Delivery]:
        """Everything that was drawn and not released: it waits here, is being read, or is at work."""
        return set(self._held)

    async def run(self) -> None:
        """Keep the buffers filled until `stop`; what a fetch under way still brings is kept for giving back."""
        async with asyncio.TaskGroup() as group:
            for lane, consumer in self._consumers.items():
                group.create_task(self._fill(lane, consumer), name=f"intake-{lane}")

    def stop(self) -> None:
        """Draw nothing more."""
        self.stopping = True
        for room in self._room.values():
            room.set()

    async def _fill(self, lane: Lane, consumer: Consumer) -> None:
        buffer, room = self._buffers[lane], self._room[lane]
        while not self.stopping:
            if len(buffer) > self._prefetch // 2:
                room.clear()
                await room.wait()
                continue
            deliveries = await consumer.fetch(self._prefetch - len(buffer), _FETCH_S)
            self._behind[lane] = deliveries[-1].waiting if deliveries else 0
            if deliveries:
                self._held.update(deliveries)
                buffer.extend(Drawn(lane, delivery) for delivery in deliveries)
                self._filled.set()

    async def next(self) -> Drawn:
        """Wait for the next message: by shares among the lanes that have one."""
        while True:
            ready = [self._facts[lane] for lane, buffer in self._buffers.items() if buffer]
            if ready:
                lane = Lane(self._turns.pick(ready).name)
                drawn = self._buffers[lane].popleft()
                self._room[lane].set()
                return drawn
            self._filled.clear()
            await self._filled.wait()

    def put_back(self, job: Job) -> None:
        """Let a message that is ours go first in its lane."""
        self._buffers[job.lane].appendleft(Drawn(job.lane, job.delivery, job))
        self._filled.set()

    def release(self, delivery: Delivery) -> None:
        """Forget a message that was acknowledged, given back or left for redelivery."""
        self._held.discard(delivery)
