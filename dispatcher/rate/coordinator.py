"""The allocator's hands: lead, read the leases, write the table. Any number may run; one leads."""

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

_STEP_S = 0.25
_SOONEST_S = 0.03
_FOLLOW_S = 0.5
_STALE_S = 0.5
"""Leases that took longer to read may hide that a pod lives: half of the window by which a silent one is outlived."""


class Coordinator:
    """Divides the fleet's rate over the pods while it leads."""

    def __init__(self, board: LimitsBoard, name: str, limit: int, rates: Mapping[str, int], timing: Timing) -> None:
        self._board = board
        self._name = name
        self._limit = limit
        self._rates = rates
        self._timing = timing
        self._wishes: dict[str, Lease] = {}
        self._hint = asyncio.Event()

    async def run(self) -> None:
        """Lead or wait to lead, until cancelled."""
        async with self._board.on_lease(self._heard):
            await self._take_turns()

    def _heard(self, pod: str, lease: Lease) -> None:
        """Look at once when a pod wishes for something else or confirms a table."""
        wish = attrs.evolve(lease, sent=0)
        if self._wishes.get(pod) != wish:
            self._wishes[pod] = wish
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
        revision, leader = await self._board.leader()
        if leader is not None:
            return None
        return await self._set_leader(revision)

    async def _set_leader(self, revision: int) -> int | None:
        ttl = max(1, round(self._timing.leader_ttl_s))
        return await self._board.set_leader(self._name, revision, ttl)

    async def _lead(self, leadership: int) -> None:
        """Allocate until the leadership or the table turns out to be another's."""
        table_revision, table = await self._board.table()
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
                stored = await self._board.set_table(after, table_revision)
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
        found = await self._board.leases()
        for pod in allocator.quiet(time.monotonic()):
            revision, lease = await self._board.lease(pod)
            if lease is not None:
                found[pod] = (revision, lease)
        return found

    async def resign(self) -> None:
        """Let another lead at once."""
        try:
            revision, leader = await self._board.leader()
            if leader == self._name:
                await self._board.resign(revision)
        except Unavailable:
            return
