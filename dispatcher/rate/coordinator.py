"""The allocator's hands: lead, read the leases, write the table. Any number may run; one leads."""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from typing import Any

import attrs
import structlog

from dispatcher.rate.allocator import Allocator, Grant, Lease, Table, Timing
from dispatcher.rate.lease import ALLOC, LEADER, from_document, lease_key
from messaging.errors import Unavailable
from messaging.stream.buckets import Bucket

_log = structlog.get_logger(__name__)

_STEP_S = 0.25
_SOONEST_S = 0.03
_FOLLOW_S = 0.5
_STALE_S = 0.5
"""Leases that took longer to read may hide that a pod lives: half of the window by which a silent one is outlived."""


class Coordinator:
    """Divides the fleet's rate over the pods while it leads."""

    def __init__(self, bucket: Bucket, name: str, limit: int, rates: Mapping[str, int], timing: Timing) -> None:
        self._bucket = bucket
        self._name = name
        self._limit = limit
        self._rates = rates
        self._timing = timing
        self._wishes: dict[str, tuple[Any, ...]] = {}
        self._hint = asyncio.Event()

    async def run(self) -> None:
        """Lead or wait to lead, until cancelled."""
        async with self._bucket.listening("lease.*", self._heard):
            await self._take_turns()

    def _heard(self, key: str, document: Any) -> None:
        """Look at once when a pod wishes for something else or confirms a table."""
        if isinstance(document, dict):
            wish = tuple(document.get(name) for name in ("demand", "floor", "version", "gone"))
            if self._wishes.get(key) != wish:
                self._wishes[key] = wish
                self._hint.set()

    async def _take_turns(self) -> None:
        while True:
            try:
                if (revision := await self._win()) is not None:
                    _log.info("leading the allocation")
                    await self._lead(revision)
                    _log.info("no longer leading")
            except Unavailable as exc:
                _log.warning("allocation interrupted", error=str(exc))
            await asyncio.sleep(_FOLLOW_S * random.uniform(1.0, 1.6))  # noqa: S311

    async def _win(self) -> int | None:
        revision, leader = await self._bucket.get(LEADER)
        if leader is not None:
            return None
        return await self._set_leader(revision)

    async def _set_leader(self, revision: int) -> int | None:
        ttl = max(1, round(self._timing.leader_ttl_s))
        return await self._bucket.compare_and_set(LEADER, {"name": self._name}, revision, ttl_s=ttl)

    async def _lead(self, leadership: int) -> None:
        """Allocate until the leadership or the table turns out to be another's."""
        table_revision, document = await self._bucket.get(ALLOC)
        table = from_table(document) if document is not None else None
        allocator = Allocator(self._limit, self._rates, table, time.monotonic(), self._timing)
        renewed = time.monotonic()
        while True:
            now = time.monotonic()
            if now - renewed > self._timing.leader_ttl_s / 3:
                won = await self._set_leader(leadership)
                if won is None:
                    return
                leadership, renewed = won, now
            asked = time.monotonic()
            leases = await self._leases(allocator)
            if time.monotonic() > asked + _STALE_S:
                continue
            allocator.observe(leases, time.monotonic())
            before = allocator.table
            after = allocator.step(time.monotonic())
            if after is not before:
                stored = await self._bucket.compare_and_set(ALLOC, to_table(after), table_revision)
                if stored is None:
                    return
                table_revision = stored
            await asyncio.sleep(_SOONEST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STEP_S - _SOONEST_S):
                    await self._hint.wait()
            self._hint.clear()

    async def _leases(self, allocator: Allocator) -> dict[str, tuple[int, Lease]]:
        """Read every lease; those of pods that seem silent from the leader, because a replica may lag behind."""
        found = await self._bucket.all("lease.*")
        for pod in allocator.quiet(time.monotonic()):
            revision, document = await self._bucket.get(lease_key(pod))
            if document is not None:
                found[lease_key(pod)] = (revision, document)
        return {
            key.removeprefix("lease."): (revision, from_document(document))
            for key, (revision, document) in found.items()
        }

    async def resign(self) -> None:
        """Let another lead at once."""
        try:
            revision, leader = await self._bucket.get(LEADER)
            if leader is not None and leader.get("name") == self._name:
                await self._bucket.compare_and_set(LEADER, None, revision, ttl_s=1)
        except Unavailable:
            return


def to_table(table: Table) -> dict[str, Any]:
    """Write a table for the bucket."""
    return {"version": table.version, "grants": {pod: attrs.asdict(grant) for pod, grant in table.grants.items()}}


def from_table(document: Mapping[str, Any]) -> Table:
    """Read a table from the bucket."""
    return Table(int(document["version"]), {pod: Grant(**grant) for pod, grant in document["grants"].items()})
