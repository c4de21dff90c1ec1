"""Runs the allocator on the stream: elects a leader, reads the leases, writes the table.

Any number of coordinators may run; one leads.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping

import attrs
import structlog

from dispatcher.rate.allocator import Allocator, Timing
from messaging.documents import Lease
from messaging.errors import Unavailable
from messaging.stream.board import LimitsBoard

_log = structlog.get_logger(__name__)

_ALLOCATE_EVERY_S = 0.2
_ALLOCATE_SOONEST_S = 0.03
_ELECTION_EVERY_S = 0.5
_ROUNDED_S = 0.001
_READ_ALL_S, _READ_ALL_IDLE_S, _MOST_SINGLE_READS = 0.38, 2.0, 4
_STALE_S = 0.5
"""Leases that took longer to read are not used: a pod could look silent that has renewed its lease meanwhile."""


class Coordinator:
    """Divides the fleet's rate among the pods while it leads."""

    def __init__(self, board: LimitsBoard, name: str, limit: int, rates: Mapping[str, int], timing: Timing) -> None:
        self._board = board
        self._name = name
        self._limit = limit
        self._rates = rates
        self._timing = timing
        self._requests: dict[str, Lease] = {}
        self._heard: set[str] = set()
        self._renewed: set[str] = set()
        self._read: dict[str, tuple[int, Lease]] = {}
        self._read_all_at = float("-inf")
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Lead or wait to lead, until cancelled."""
        async with self._board.on_lease(self._on_lease):
            await self._lead_by_turns()

    def _on_lease(self, pod: str, lease: Lease) -> None:
        """Allocate at once when a pod changes its demand or confirms a table."""
        self._renewed.add(pod)
        request = attrs.evolve(lease, sent=0, lately=None)
        if self._requests.get(pod) != request:
            self._requests[pod] = request
            self._heard.add(pod)
            self._changed.set()

    async def _lead_by_turns(self) -> None:
        while True:
            try:
                if (revision := await self._try_to_lead()) is not None:
                    _log.info("leading the allocation")
                    await self._lead(revision)
                    _log.info("no longer leading")
            except Unavailable as exc:
                _log.warning("allocation interrupted", error=str(exc))
            await asyncio.sleep(_ELECTION_EVERY_S * random.uniform(1.0, 1.6))  # noqa: S311

    async def _try_to_lead(self) -> int | None:
        """Become the leader when there is none; returns the revision of the leadership, None when another leads."""
        revision, leader = await self._board.leader()
        if leader is not None:
            return None
        return await self._set_leader(revision)

    async def _set_leader(self, revision: int) -> int | None:
        ttl = max(1, round(self._timing.leader_ttl_s))
        return await self._board.set_leader(self._name, revision, ttl, self._timing.rest_s)

    async def _lead(self, leadership: int) -> None:
        """Allocate until another coordinator has taken the leadership or written the table."""
        table_revision, table = await self._board.table()
        allocator = Allocator(self._limit, self._rates, table, time.monotonic(), self._timing)
        renewed = time.monotonic()
        while True:
            now = time.monotonic()
            if now - renewed > self._timing.leader_ttl_s / 3:
                revision = await self._set_leader(leadership)
                if revision is None:
                    return
                leadership, renewed = revision, now
            began = time.monotonic()
            leases = await self._leases(allocator)
            if time.monotonic() > began + _STALE_S:
                continue
            allocator.observe(leases, time.monotonic())
            before = allocator.table
            after = allocator.step(time.monotonic())
            if after is not before:
                stored = await self._board.set_table(after, table_revision)
                if stored is None:
                    return
                table_revision = stored
            await asyncio.sleep(_ALLOCATE_SOONEST_S)
            wait_s = min(_ALLOCATE_EVERY_S - _ALLOCATE_SOONEST_S, allocator.next_end(time.monotonic()) + _ROUNDED_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            self._changed.clear()

    async def _leases(self, allocator: Allocator) -> dict[str, tuple[int, Lease]]:
        """Read the leases that have changed at once, and those that were renewed when they are few.

        All of them are read twice a second, or seldom while none is renewed: the allocator counts from when it knows of
        a renewal until a killed pod's share is free. Those of silent pods are read from the stream's leader, because a
        replica may lag.
        """
        now = time.monotonic()
        heard, self._heard = self._heard, set()
        if len(heard | self._renewed) <= _MOST_SINGLE_READS:
            heard, self._renewed = heard | self._renewed, set()
        asked, before = frozenset(heard), dict(self._read)
        read_all_s = _READ_ALL_S if self._renewed else _READ_ALL_IDLE_S
        if len(heard) > _MOST_SINGLE_READS or now >= self._read_all_at + read_all_s:
            self._renewed = set()
            read = await self._board.leases()
            newer = {pod: one for pod, one in self._read.items() if pod in read and one[0] > read[pod][0]}
            self._read, self._read_all_at, heard = read | newer, now, set()
        alone = sorted(heard.union(allocator.silent(time.monotonic())))
        for pod, (revision, lease) in zip(alone, await asyncio.gather(*map(self._board.lease, alone)), strict=True):
            if lease is not None:
                self._read[pod] = (revision, lease)
        # What was heard of may not have been stored yet: it is read again.
        self._heard |= {pod for pod in asked if pod in before and self._read.get(pod, before[pod])[0] == before[pod][0]}
        return self._read

    async def resign(self) -> None:
        """Give up the leadership, so that another coordinator can lead at once."""
        try:
            revision, leader = await self._board.leader()
            if leader == self._name:
                await self._board.resign(revision)
        except Unavailable:
            return
