"""Drawing from a provider's lanes: little ahead, urgent first, and no lane starved."""

import asyncio
from collections import deque
from collections.abc import Mapping

from messaging.model import Lane
from messaging.routing import ProviderFacts, Turns
from messaging.stream.consumer import Consumer, Delivery

SHARES: dict[Lane, int] = {Lane.OTP: 6, Lane.NORMAL: 3, Lane.BULK: 1}
"""Guaranteed parts of the rate while all three lanes have work; what one does not use goes to the others."""

PREFETCH = 8
"""Messages held ahead for each lane: more would let drawn bulk delay an OTP."""

_FETCH_S = 1.0


class Intake:
    """Fills a small buffer for each lane and hands out the next message by shares."""

    def __init__(self, consumers: Mapping[Lane, Consumer], prefetch: int = PREFETCH) -> None:
        self._consumers = consumers
        self._prefetch = prefetch
        self._buffers: dict[Lane, deque[Delivery]] = {lane: deque() for lane in consumers}
        self._behind: dict[Lane, int] = dict.fromkeys(consumers, 0)
        self._facts = {lane: ProviderFacts(lane, SHARES[lane]) for lane in consumers}
        self._turns = Turns()
        self._stopping = False
        self._filled = asyncio.Event()
        self._room = {lane: asyncio.Event() for lane in consumers}

    @property
    def waiting(self) -> int:
        """About how many messages wait, in the buffers and behind them on the stream."""
        return sum(map(len, self._buffers.values())) + sum(self._behind.values())

    def held(self) -> list[Delivery]:
        """Give what is drawn and not handed out."""
        return [delivery for buffer in self._buffers.values() for delivery in buffer]

    async def run(self) -> None:
        """Keep the buffers filled until `stop`; what a fetch under way still brings is kept for giving back."""
        async with asyncio.TaskGroup() as group:
            for lane, consumer in self._consumers.items():
                group.create_task(self._fill(lane, consumer), name=f"intake-{lane}")

    def stop(self) -> None:
        """Draw nothing more."""
        self._stopping = True
        for room in self._room.values():
            room.set()

    async def _fill(self, lane: Lane, consumer: Consumer) -> None:
        buffer, room = self._buffers[lane], self._room[lane]
        while not self._stopping:
            if len(buffer) > self._prefetch // 2:
                room.clear()
                await room.wait()
                continue
            drawn = await consumer.fetch(self._prefetch - len(buffer), _FETCH_S)
            self._behind[lane] = drawn[-1].waiting if drawn else 0
            if drawn:
                buffer.extend(drawn)
                self._filled.set()

    async def next(self) -> tuple[Lane, Delivery]:
        """Wait for the next message: by shares among the lanes that have one."""
        while True:
            ready = [self._facts[lane] for lane, buffer in self._buffers.items() if buffer]
            if ready:
                lane = Lane(self._turns.pick(ready).name)
                delivery = self._buffers[lane].popleft()
                self._room[lane].set()
                return lane, delivery
            self._filled.clear()
            await self._filled.wait()

    def put_back(self, lane: Lane, delivery: Delivery) -> None:
        """Let a message that is ours go first in its lane."""
        self._buffers[lane].appendleft(delivery)
        self._filled.set()
