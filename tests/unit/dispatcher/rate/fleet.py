"""A whole fleet in virtual time: real lease holders, coordinators and pacers on a bucket that misbehaves."""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import attrs

from dispatcher.rate.allocator import Timing
from dispatcher.rate.coordinator import Coordinator
from dispatcher.rate.lease import LeaseHolder
from dispatcher.rate.pacer import Pacer
from messaging.documents import ALLOC
from messaging.errors import StreamDown
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket

Clock = Callable[[], float]


@attrs.define
class Weather:
    """How the network behaves: usual delay, probability and length of a long one, probability of a lost answer."""

    usual_s: float = 0.002
    long_odds: float = 0.0
    long_s: float = 0.0
    lost_odds: float = 0.0
    lag_s: float = 0.0


class Store:
    """The contents of the bucket; its revisions are a stream's sequences."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sequence = 0
        self.listeners: list[tuple[str, Callable[[str, Any], None]]] = []
        self._values: dict[str, list[tuple[float, int, Any, float]]] = defaultdict(list)

    def write(self, key: str, document: Any, ttl_s: float | None = None) -> int:
        self._sequence += 1
        end = float("inf") if ttl_s is None else self._clock() + ttl_s
        self._values[key].append((self._clock(), self._sequence, document, end))
        del self._values[key][:-20]
        for prefix, heard in self.listeners:
            if key.startswith(prefix):
                heard(key, document)
        return self._sequence

    def read(self, key: str, at: float | None = None) -> tuple[int, Any]:
        now = self._clock() if at is None else at
        for written, sequence, document, end in reversed(self._values[key]):
            if written <= now:
                return (sequence, document) if now < end else (sequence, None)
        return 0, None

    def keys(self, prefix: str) -> Iterable[str]:
        return [key for key in self._values if key.startswith(prefix)]

    def recreate(self) -> None:
        """Lose everything including the sequence, as when an operator deletes the stream."""
        self._values.clear()
        self._sequence = 0


class FakeBucket:
    """One process's connection to the store; with `cut` every request fails."""

    def __init__(self, store: Store, clock: Clock, chance: random.Random, weather: Weather) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self.weather = weather
        self.cut = False

    async def _travel(self) -> None:
        weather = self.weather
        long = self._chance.random() < weather.long_odds
        await asyncio.sleep(self._chance.uniform(0, weather.long_s if long else 2 * weather.usual_s))
        if self.cut or self._chance.random() < weather.lost_odds:
            await asyncio.sleep(self._chance.uniform(0, 1))
            raise StreamDown("weather")

    async def get(self, key: str) -> tuple[int, Any]:
        await self._travel()
        found = self._store.read(key)
        await self._travel()
        return found

    async def put(self, key: str, document: Any, *, ttl_s: int | None = None) -> int:
        await self._travel()
        sequence = self._store.write(key, document, ttl_s)
        await self._travel()
        return sequence

    async def compare_and_set(self, key: str, document: Any, revision: int, *, ttl_s: int | None = None) -> int | None:
        await self._travel()
        if self._store.read(key)[0] != revision:
            return None
        sequence = self._store.write(key, document, ttl_s)
        await self._travel()
        return sequence

    async def put_while(self, key: str, document: Any, other: str, revision: int, *, ttl_s: int | None = None) -> bool:
        await self._travel()
        holds = self._store.read(other)[0] == revision
        if holds:
            self._store.write(key, document, ttl_s)
        await self._travel()
        return holds

    @contextlib.asynccontextmanager
    async def on_write(self, pattern: str, notify: Callable[[str, Any], None]) -> AsyncIterator[None]:
        def unless_lost(key: str, document: Any) -> None:
            if not self.cut and self._chance.random() >= self.weather.lost_odds:
                notify(key, document)

        listener = (pattern.removesuffix("*"), unless_lost)
        self._store.listeners.append(listener)
        try:
            yield
        finally:
            self._store.listeners.remove(listener)

    async def all(self, pattern: str) -> dict[str, tuple[int, Any]]:
        await self._travel()
        at = self._clock() - self._chance.uniform(0, self.weather.lag_s)
        found = {key: self._store.read(key, at) for key in self._store.keys(pattern.removesuffix("*"))}
        await self._travel()
        return {key: value for key, value in found.items() if value[1] is not None}


class WatchedPacer(Pacer):
    """A pacer that records what it could have used, and when."""

    def __init__(self, window_s: float, clock: Clock) -> None:
        self.history: list[tuple[float, int, float]] = []
        super().__init__(window_s, clock)

    def _note(self) -> None:
        self.history.append((self._clock(), self.share, self._valid_until))

    def set_share(self, share: int) -> None:
        super().set_share(share)
        self._note()

    def renewed(self, valid_until: float) -> None:
        super().renewed(valid_until)
        self._note()

    def give_up(self) -> None:
        super().give_up()
        self._note()

    def usable(self) -> list[tuple[float, int]]:
        """(time, share): the share that can be used from that time on."""
        steps: list[tuple[float, int]] = []
        for index, (at, share, valid_until) in enumerate(self.history):
            until = self.history[index + 1][0] if index + 1 < len(self.history) else float("inf")
            if at < valid_until:
                steps.append((at, share))
                if valid_until < until:
                    steps.append((valid_until, 0))
            else:
                steps.append((at, 0))
        return steps


@attrs.define(eq=False)
class Pod:
    name: str
    provider: str
    pacer: WatchedPacer
    holder: LeaseHolder
    bucket: FakeBucket
    task: asyncio.Task[None]
    demand: int


class FakeFleet:
    """Pods that can be started, stopped, killed and disconnected, and any number of coordinators."""

    def __init__(self, clock: Clock, limit: int, rates: dict[str, int], seed: int = 0, weather: Weather | None = None):
        self.clock = clock
        self.limit = limit
        self.rates = rates
        self.timing = Timing()
        self.store = Store(clock)
        self.chance = random.Random(seed)
        self.weather = weather or Weather()
        self.pods: dict[str, Pod] = {}
        self.everyone: list[Pod] = []
        self.coordinators: dict[str, asyncio.Task[None]] = {}
        self._count = 0

    def _bucket(self) -> FakeBucket:
        return FakeBucket(self.store, self.clock, self.chance, self.weather)

    def _board(self, bucket: FakeBucket) -> LimitsBoard:
        return LimitsBoard(cast("Bucket", bucket))

    def add(self, provider: str, demand: int, name: str = "") -> Pod:
        self._count += 1
        name = name or f"{provider}-{self._count}"
        pacer, bucket = WatchedPacer(self.timing.window_s, self.clock), self._bucket()
        holder = LeaseHolder(
            board=self._board(bucket),
            pod=name,
            provider=provider,
            pacer=pacer,
            timing=self.timing,
            demand=lambda: (self.pods_demand(name), 1),
            idle=lambda: self.pods_demand(name) == 0,
        )
        pod = Pod(name, provider, pacer, holder, bucket, asyncio.create_task(self._live(name, holder, pacer)), demand)
        self.pods[name] = pod
        self.everyone.append(pod)
        return pod

    async def _live(self, name: str, holder: LeaseHolder, pacer: Pacer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(holder.run())
            while True:  # a message that waits asks for a permit again and again
                await asyncio.sleep(0.1)
                if name in self.pods and self.pods[name].demand:
                    pacer.on_wanted()

    def pods_demand(self, name: str) -> int:
        return self.pods[name].demand

    async def kill(self, pod: Pod) -> None:
        """End it as kill -9 does; from then on it uses nothing."""
        pod.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pod.task
        pod.pacer.give_up()
        self.pods.pop(pod.name, None)

    async def stop(self, pod: Pod) -> None:
        """Stop it gracefully: the share is given back."""
        pod.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pod.task
        await pod.holder.give_back()
        self.pods.pop(pod.name, None)

    def lead(self, name: str) -> None:
        coordinator = Coordinator(self._board(self._bucket()), name, self.limit, self.rates, self.timing)
        self.coordinators[name] = asyncio.create_task(coordinator.run())

    async def depose(self, name: str) -> None:
        task = self.coordinators.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def lose_table(self) -> None:
        self.store.write(ALLOC, None)

    async def close(self) -> None:
        tasks = [*self.coordinators.values(), *(pod.task for pod in self.everyone)]
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [one for one in ended if isinstance(one, Exception)]

    def in_use(self) -> int:
        return sum(pod.pacer.share for pod in self.everyone if self.clock() < pod.pacer._valid_until)

    def share_of(self, provider: str) -> int:
        return sum(pod.pacer.share for pod in self.pods.values() if pod.provider == provider)

    def check(self) -> None:
        """Check that in no window the fleet could send more than the limit, or than a provider's rate."""
        check_peak(self.everyone, self.limit, self.timing.window_s, "the fleet")
        for provider, rate in self.rates.items():
            check_peak([pod for pod in self.everyone if pod.provider == provider], rate, self.timing.window_s, provider)


def check_peak(pods: list[Pod], limit: int, window_s: float, whose: str) -> None:
    """Count for each pod the highest share that it could use within the window."""
    # A higher share counts at once, a lower one a window later.
    changes: list[tuple[float, int, int]] = []
    for number, pod in enumerate(pods):
        changes += [(at, number, share) for at, share in _held_for(pod.pacer.usable(), window_s)]
    current = [0] * len(pods)
    total = 0
    # At equal times the shares that end go first: the window is half-open.
    for at, number, share in sorted(changes, key=lambda change: (change[0], change[2] - 10**6 * (change[2] == 0))):
        total += share - current[number]
        current[number] = share
        assert total <= limit, f"at {at:.3f} s {whose} could use {total} of {limit}"


def _held_for(steps: list[tuple[float, int]], window_s: float) -> list[tuple[float, int]]:
    """Turn 'share from this time on' into 'highest share within the window that ends at this time'."""
    spans = [
        (at, (steps[index + 1][0] if index + 1 < len(steps) else float("inf")) + window_s, share)
        for index, (at, share) in enumerate(steps)
    ]
    moments = sorted({start for start, _, _ in spans} | {end for _, end, _ in spans if end != float("inf")})
    return [(at, max((share for start, end, share in spans if start <= at < end), default=0)) for at in moments]
