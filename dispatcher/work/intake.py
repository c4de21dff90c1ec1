"""Draws from a provider's lanes: a few messages ahead, urgent ones first, and no lane starves."""

import asyncio
from collections import deque
from collections.abc import Mapping

import attrs

from dispatcher.work.job import Job
from messaging.model import Lane
from messaging.routing import ProviderFacts, Rotation
from messaging.stream.interface import Consumer, Delivery

SHARES: dict[Lane, int] = {Lane.OTP: 6, Lane.NORMAL: 3, Lane.BULK: 1}
"""Relative parts of the rate while all three lanes have work; what one does not use goes to the others."""

PREFETCH = 8
"""Messages drawn ahead for each lane. With more, bulk messages already drawn could delay an OTP."""

MOST_PREFETCH = 256
"""While what comes is too late, more is drawn at once: it takes no permit, and hides what could still be sent."""

_FETCH_S, _REST_FETCH_S = 1.0, 30.0
_RESTS_AFTER = 3
"""After so many fetches without a message, a lane asks for its next message once in `_REST_FETCH_S`.

A request that the server has forgotten shows when the fleet's count finds messages in the lane: see `note_count`.
"""
LAST_FETCH_S = _FETCH_S + 0.2
"""After `stop`, a running fetch has returned within this time."""


@attrs.frozen(eq=False)
class Drawn:
    """The next message to work on; `job` is None until the delivery has been read."""

    lane: Lane
    delivery: Delivery
    job: Job | None = None


class Intake:
    """Fills a small buffer for each lane, hands out the next message, and lists every delivery that the pod holds."""

    def __init__(self, consumers: Mapping[Lane, Consumer], prefetch: int = PREFETCH) -> None:
        self._consumers = consumers
        self._least_prefetch = prefetch
        self._prefetch = dict.fromkeys(consumers, prefetch)
        self._buffers: dict[Lane, deque[Drawn]] = {lane: deque() for lane in consumers}
        self._on_stream: dict[Lane, int] = dict.fromkeys(consumers, 0)
        self._facts = {lane: ProviderFacts(lane, SHARES[lane]) for lane in consumers}
        self._turns = Rotation()
        self._outstanding: set[Delivery] = set()
        self._filled = asyncio.Event()
        self._room = {lane: asyncio.Event() for lane in consumers}
        self._empty_fetches = dict.fromkeys(consumers, 0)
        self._stopped = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether nothing more is drawn."""
        return self._stopped.is_set()

    @property
    def waiting(self) -> int:
        """About how many messages wait, in the buffers and on the stream."""
        return sum(map(len, self._buffers.values())) + sum(self._on_stream.values())

    @property
    def outstanding(self) -> set[Delivery]:
        """Every delivery that was drawn and not released: buffered, being read, or in a task."""
        return set(self._outstanding)

    async def run(self) -> None:
        """Keep the buffers filled until `stop`. Messages of a fetch that is still running are buffered too."""
        async with asyncio.TaskGroup() as group:
            for lane, consumer in self._consumers.items():
                group.create_task(self._fill(lane, consumer), name=f"intake-{lane}")
            await self._stopped.wait()
            for lane, consumer in self._consumers.items():
                if self._rests(lane):
                    group.create_task(consumer.finish(), name=f"finish-{lane}")

    def stop(self) -> None:
        """Draw nothing more."""
        self._stopped.set()
        for room in self._room.values():
            room.set()

    async def close(self) -> None:
        """Close the consumers."""
        for consumer in self._consumers.values():
            await consumer.close()

    async def _fill(self, lane: Lane, consumer: Consumer) -> None:
        buffer, room = self._buffers[lane], self._room[lane]
        while not self.stopping:
            prefetch = self._prefetch[lane]
            if len(buffer) > prefetch // 2:
                room.clear()
                await room.wait()
                continue
            wait_s = _REST_FETCH_S if self._rests(lane) else _FETCH_S
            deliveries = await consumer.fetch(prefetch - len(buffer), wait_s)
            self._on_stream[lane] = deliveries[-1].waiting if deliveries else 0
            self._empty_fetches[lane] = 0 if deliveries else self._empty_fetches[lane] + 1
            if deliveries:
                self._outstanding.update(deliveries)
                buffer.extend(Drawn(lane, delivery) for delivery in deliveries)
                self._filled.set()

    def _rests(self, lane: Lane) -> bool:
        return self._empty_fetches[lane] >= _RESTS_AFTER

    def note_count(self, lane: Lane, waiting: int) -> None:
        """Note how many messages the fleet's count found in a lane: a lane that rests asks for them again."""
        if waiting and self._rests(lane):
            self._empty_fetches[lane] = 0
            self._consumers[lane].interrupt()

    async def next(self) -> Drawn:
        """Wait for the next message, chosen by SHARES among the lanes that have one."""
        while True:
            ready = [self._facts[lane] for lane, buffer in self._buffers.items() if buffer]
            if ready:
                lane = Lane(self._turns.pick(ready).name)
                drawn = self._buffers[lane].popleft()
                self._room[lane].set()
                return drawn
            self._filled.clear()
            await self._filled.wait()

    def note_late(self, lane: Lane) -> None:
        """Note that a message of a lane came too late: more of them are drawn at once."""
        self._prefetch[lane] = min(MOST_PREFETCH, self._prefetch[lane] + 1)
        if len(self._buffers[lane]) <= self._prefetch[lane] // 2:
            self._room[lane].set()

    def note_in_time(self, lane: Lane) -> None:
        """Note that a message of a lane was sent: few are drawn ahead again."""
        self._prefetch[lane] = self._least_prefetch

    def put_back(self, job: Job) -> None:
        """Put a job of this pod at the front of its lane."""
        self._buffers[job.lane].appendleft(Drawn(job.lane, job.delivery, job))
        self._filled.set()

    def release(self, delivery: Delivery) -> None:
        """Stop holding a delivery that was acknowledged, given back or left for redelivery."""
        self._outstanding.discard(delivery)
