"""A fleet of any size in virtual time, whose requests to the limits bucket and their bytes are counted."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import attrs

from messaging import documents
from messaging.documents import ALLOC, Table
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from tests.unit.dispatcher.rate.fleet import Clock, FakeBucket, FakeFleet, Pod

PROVIDER_RATE = 50
IDLE, BUSY, LITTLE = 0, PROVIDER_RATE, 1
"""What a pod could use: nothing, all of its provider's rate, or one send a second."""

_LOOK_EVERY_S = 0.05


@attrs.define
class Traffic:
    """What went to and from the bucket: requests, bytes that were read, and bytes that were pushed to listeners."""

    requests: Counter[str] = attrs.Factory(Counter)
    read_bytes: int = 0
    pushed_bytes: int = 0
    _known: dict[int, tuple[Any, int]] = attrs.Factory(dict)

    def size(self, document: Any) -> int:
        """Return the size of a document as the bucket holds it; the store never changes one."""
        known = self._known.get(id(document))
        if known is None:
            text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
            known = self._known[id(document)] = (document, len(text.encode()))
        return known[1]


class CountedBucket(FakeBucket):
    """A bucket that counts what it is asked."""

    traffic: Traffic

    async def get(self, key: str) -> tuple[int, Any]:
        self.traffic.requests["get"] += 1
        found = await super().get(key)
        self.traffic.read_bytes += self.traffic.size(found[1])
        return found

    async def all(self, pattern: str) -> dict[str, tuple[int, Any]]:
        self.traffic.requests["list"] += 1
        found = await super().all(pattern)
        self.traffic.read_bytes += sum(self.traffic.size(document) for _, document in found.values())
        return found

    async def put(self, key: str, document: Any, *, ttl_s: int | None = None) -> int:
        self.traffic.requests["put"] += 1
        return await super().put(key, document, ttl_s=ttl_s)

    async def compare_and_set(self, key: str, document: Any, revision: int, *, ttl_s: int | None = None) -> int | None:
        self.traffic.requests["table" if key == ALLOC else "leader"] += 1
        return await super().compare_and_set(key, document, revision, ttl_s=ttl_s)

    async def put_while(self, key: str, document: Any, other: str, revision: int, *, ttl_s: int | None = None) -> bool:
        self.traffic.requests["put while"] += 1
        return await super().put_while(key, document, other, revision, ttl_s=ttl_s)

    @contextlib.asynccontextmanager
    async def on_write(self, pattern: str, notify: Callable[[str, Any], None]) -> AsyncIterator[None]:
        def counted(key: str, document: Any) -> None:
            self.traffic.pushed_bytes += self.traffic.size(document)
            notify(key, document)

        async with super().on_write(pattern, counted):
            yield


class _ReadOnce(LimitsBoard):
    """A board that takes a table from the boards that have read the same document: it makes the simulation quick."""

    def __init__(self, bucket: Bucket, tables: dict[int, tuple[object, Table]]) -> None:
        super().__init__(bucket)
        self._tables = tables

    def _read(self, key: str, document: object) -> Table:
        known = self._tables.get(id(document))
        if known is None:
            known = self._tables[id(document)] = (document, documents.read_table(key, document))
        return known[1]

    async def table(self) -> tuple[int, Table | None]:
        return await self._documents.get(ALLOC, self._read)

    def _pass_table_on(self, key: str, document: object) -> None:
        for notify in list(self._on_table):
            notify(None if document is None else self._read(key, document))


class LargeFleet(FakeFleet):
    """Pods spread evenly over providers; the fleet's limit is half of what the providers take."""

    def __init__(self, clock: Clock, pods: int, providers: int, seed: int = 0) -> None:
        names = [f"provider-{n:03}" for n in range(providers)]
        super().__init__(clock, providers * PROVIDER_RATE // 2, dict.fromkeys(names, PROVIDER_RATE), seed)
        self.traffic = Traffic()
        self._tables: dict[int, tuple[object, Table]] = {}
        self.lead("coordinator-1")
        self.lead("coordinator-2")
        for n in range(pods):
            name = names[n % providers]
            self.add(name, IDLE, f"dispatcher-{name}-7d9f8b6c5d-{n:05}")

    def _bucket(self) -> FakeBucket:
        bucket = CountedBucket(self.store, self.clock, self.chance, self.weather)
        bucket.traffic = self.traffic
        return bucket

    def _board(self, bucket: FakeBucket) -> LimitsBoard:
        return _ReadOnce(cast("Bucket", bucket), self._tables)

    def give_work(self, busy: Callable[[int], bool], other: int) -> list[Pod]:
        """Give work to the pods of the providers that `busy` chooses; the demand of the rest is `other`."""
        chosen = []
        for pod in self.pods.values():
            is_busy = busy(int(pod.provider.removeprefix("provider-")))
            pod.demand = BUSY if is_busy else other
            chosen += [pod] if is_busy else []
        return chosen

    def table_bytes(self) -> int:
        """Return the size of the table's document."""
        return self.traffic.size(self.store.read(ALLOC)[1])

    async def convergence_s(self, within_s: float) -> float:
        """Return after how many seconds every pod has the share that it has after `within_s`."""
        began, seen = self.clock(), []
        while self.clock() < began + within_s:
            await asyncio.sleep(_LOOK_EVERY_S)
            seen.append((self.clock() - began, [pod.pacer.share for pod in self.pods.values()]))
        final = seen[-1][1]
        return max((at for at, shares in seen if shares != final), default=0.0) + _LOOK_EVERY_S

    async def counted(self, seconds: float) -> Traffic:
        """Count the traffic of so many seconds."""
        self.traffic.requests.clear()
        self.traffic.read_bytes = self.traffic.pushed_bytes = 0
        await asyncio.sleep(seconds)
        return attrs.evolve(self.traffic, requests=Counter(self.traffic.requests))
