"""The pod's side of the allocation: renew the lease, apply the table, confirm what was lowered.

A lease that ended is never taken up again: what it held may be another's by now. The pod leaves it behind and comes
back under a new name (`<pod>=2`), to which the allocator gives a share like to any new pod.
"""

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from dispatcher.rate.allocator import Timing
from dispatcher.rate.pacer import Pacer
from messaging.documents import Lease, Table
from messaging.errors import Unavailable
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import STORE_DELAY_S

_log = structlog.get_logger(__name__)

_LEASE_TTL_S = 30
_SOONEST_S = 0.05


class LeaseHolder:
    """Keeps one pod's lease. `demand` gives (units a second that it could use, its dearest waiting message)."""

    def __init__(
        self,
        board: LimitsBoard,
        pod: str,
        provider: str,
        pacer: Pacer,
        timing: Timing,
        demand: Callable[[], tuple[int, int]],
    ) -> None:
        self._board = board
        self._pod = pod
        self._provider = provider
        self._pacer = pacer
        self._timing = timing
        self._demand = demand
        self._name = pod
        self._lives = 1
        self._good_until: float | None = None
        self._revision = 0
        self._version = 0
        self._told = 0
        self._told_floor = 1
        self._hint = asyncio.Event()
        self._looking = False

    async def run(self) -> None:
        """Renew until cancelled; while the bucket is away the lease runs out by itself."""
        async with self._board.on_table(self._heard):
            while True:
                began = time.monotonic()
                try:
                    await self.sync()
                except Unavailable as exc:
                    _log.debug("lease not renewed", error=str(exc))
                await self._rest(began)

    def _heard(self, table: Table | None) -> None:
        """Look at once when a table speaks of us: most speak of others only. While we read one we cannot know."""
        grant = table.grants.get(self._name) if table else None
        known = grant is not None and grant.share == self._pacer.share and grant.held_version <= self._version
        if self._looking or not known:
            self._hint.set()

    async def _rest(self, began: float) -> None:
        """Wait until the next renewal: sooner when the table has changed or our wish has."""
        jitter = random.uniform(0.92, 1.0)  # noqa: S311
        end = began + self._timing.renew_s * jitter
        while True:
            left = end - time.monotonic()
            try:
                async with asyncio.timeout(max(_SOONEST_S, min(left, 2 * _SOONEST_S))):
                    await self._hint.wait()
            except TimeoutError:
                if left <= 2 * _SOONEST_S or self._wish_has_changed():
                    return
                continue
            self._hint.clear()
            await asyncio.sleep(STORE_DELAY_S)
            return

    def _wish_has_changed(self) -> bool:
        demand, floor = self._demand()
        return abs(demand - self._told) > max(2, self._told // 4) or floor > self._told_floor

    async def sync(self) -> None:
        """Renew, read the table, apply it; a share that was lowered is confirmed by a second renewal."""
        began = await self._tell()
        self._looking = True
        try:
            await self._look(began)
        finally:
            self._looking = False

    async def _look(self, began: float) -> None:
        revision, table = await self._board.table()
        if self._revision and (table is None or revision < self._revision):
            await self._begin_anew()  # the table is lost
        elif await self._extend(began) and table is not None and revision != self._revision:
            self._revision = revision
            grant = table.grants.get(self._name)
            self._pacer.set_share(grant.share if grant else 0)
            awaited = grant is not None and grant.held_version > self._version
            self._version = table.version
            if awaited:
                await self._extend(await self._tell())

    async def _extend(self, began: float) -> bool:
        """Make the lease last from `began`; False when it had ended: what it held may have been given away."""
        if self._good_until is None or time.monotonic() >= self._good_until:
            await self._begin_anew()
            return False
        self._good_until = began + self._timing.lease_s
        self._pacer.renewed(self._good_until)
        return True

    async def _tell(self) -> float:
        """Write the lease; gives the moment before, from which it counts: the allocator counts from a later one."""
        began = time.monotonic()
        demand, floor = self._told, self._told_floor = self._demand()
        lease = Lease(self._provider, demand, floor, self._version, self._pacer.sent_units)
        if self._good_until is None:
            self._good_until = began + self._timing.lease_s
        await self._board.put_lease(self._name, lease, _LEASE_TTL_S)
        return began

    async def _begin_anew(self) -> None:
        """Leave the share where it is and ask for another under a new name, so that none is ever used twice."""
        self._pacer.set_share(0)
        left, self._lives = self._name, self._lives + 1
        self._name = f"{self._pod}={self._lives}"
        self._version, self._revision, self._good_until = 0, 0, None
        lease = Lease(self._provider, 0, 1, self._version, self._pacer.sent_units, gone=True)
        await self._board.put_lease(left, lease, _LEASE_TTL_S)

    async def give_back(self) -> None:
        """Send nothing more, and say so, so that others may use the share at once."""
        self._pacer.give_up()
        lease = Lease(self._provider, 0, 1, self._version, self._pacer.sent_units, gone=True)
        try:
            await self._board.put_lease(self._name, lease, _LEASE_TTL_S)
        except Unavailable as exc:
            _log.info("lease runs out by itself", error=str(exc))
