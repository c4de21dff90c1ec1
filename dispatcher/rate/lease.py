"""Keeps a pod's lease: renews it, applies the table of shares, and confirms a lowered share.

A lease that has ended is never renewed, because its share may belong to another pod by now. The pod abandons it and
takes a new lease under a new name (`<pod>=2`); the allocator treats that name as a new pod.
"""

import asyncio
import random
from collections.abc import Callable

import structlog

from dispatcher.rate.allocator import Timing
from dispatcher.rate.pacer import Pacer
from dispatcher.rate.share_watch import ShareWatch
from messaging.documents import Lease, Table
from messaging.errors import Unavailable
from messaging.runtime.boot_clock import boot_time
from messaging.runtime.problems import Problems
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import STORE_DELAY_S

_log = structlog.get_logger(__name__)

_LEASE_TTL_S = 30
_RENEW_SOONEST_S = 0.05
_NO_SHARE_S = 5.0


class LeaseHolder:
    """Keeps one pod's lease.

    `demand` returns (units a second that the pod could use, the cost of its most expensive waiting message).
    """

    def __init__(
        self,
        *,
        board: LimitsBoard,
        pod: str,
        provider: str,
        pacer: Pacer,
        timing: Timing,
        demand: Callable[[], tuple[int, int]],
        problems: Problems | None = None,
    ) -> None:
        self._board = board
        self._pod = pod
        self._provider = provider
        self._pacer = pacer
        self._timing = timing
        self._demand = demand
        self._watch = ShareWatch(board, provider, problems or Problems(), max(_NO_SHARE_S, 2 * timing.lease_s))
        self._name = pod
        self._lease_count = 1
        self._valid_until: float | None = None
        self._table_revision = 0
        self._applied_version = 0
        self._reported_demand = 0
        self._reported_floor = 1
        self._renew_now = asyncio.Event()
        self._reading_table = False

    async def run(self) -> None:
        """Renew until cancelled; while the bucket cannot be reached the lease runs out."""
        async with self._board.on_table(self._on_table):
            while True:
                began = boot_time()
                try:
                    await self.sync()
                except Unavailable as exc:
                    _log.debug("lease not renewed", error=str(exc))
                    self._say_when_lost(str(exc))
                await self._wait_to_renew(began)

    def _on_table(self, table: Table | None) -> None:
        """Renew at once when a table changes this pod's share, or arrives while another one is being read."""
        grant = table.grants.get(self._name) if table else None
        applied = grant is not None and grant.share == self._pacer.share and grant.held_version <= self._applied_version
        if self._reading_table or not applied:
            self._renew_now.set()

    async def _wait_to_renew(self, began: float) -> None:
        """Wait until the next renewal: sooner when the share or the demand has changed."""
        jitter = random.uniform(0.92, 1.0)  # noqa: S311
        end = began + self._timing.renew_s * jitter
        while True:
            left = end - boot_time()
            try:
                async with asyncio.timeout(max(_RENEW_SOONEST_S, min(left, 2 * _RENEW_SOONEST_S))):
                    await self._renew_now.wait()
            except TimeoutError:
                if left <= 2 * _RENEW_SOONEST_S or self._demand_has_changed():
                    return
                continue
            self._renew_now.clear()
            await asyncio.sleep(STORE_DELAY_S)
            return

    def _demand_has_changed(self) -> bool:
        demand, floor = self._demand()
        return abs(demand - self._reported_demand) > max(2, self._reported_demand // 4) or floor > self._reported_floor

    async def sync(self) -> None:
        """Renew the lease and apply the table; a second renewal confirms a lowered share. Raises Unavailable.

        The lease is written and the table read at once, not one after the other: on a slow network the lease would end
        before the second answer came. A table that was read since `began` shows that the share was valid then.
        """
        self._reading_table = True
        try:
            began, read = await asyncio.gather(self._write_lease(), self._board.table(), return_exceptions=True)
            if isinstance(began, BaseException):
                raise began
            if isinstance(read, BaseException):
                raise read
            await self._apply_table(began, *read)
        finally:
            self._reading_table = False

    def _say_when_lost(self, why: str) -> None:
        """Log a lease that has ended; until then it may still be renewed."""
        now = boot_time()
        if self._valid_until is not None and now >= self._valid_until:
            self._watch.lost(why, now - self._valid_until + self._timing.lease_s)

    async def _apply_table(self, began: float, revision: int, table: Table | None) -> None:
        if self._table_revision and (table is None or revision < self._table_revision):
            self._watch.lost("the table of shares was lost", 0.0)
            await self._start_new_lease()
        elif await self._extend(began) and table is not None and revision != self._table_revision:
            self._table_revision = revision
            grant = table.grants.get(self._name)
            self._pacer.set_share(grant.share if grant else 0)
            confirms = grant is not None and grant.held_version > self._applied_version
            self._applied_version = table.version
            if confirms:
                await self._extend(await self._write_lease())
        await self._watch.note(self._name, table, self._pacer.share)

    async def _extend(self, began: float) -> bool:
        """Extend the lease, counted from `began`; False when it had already ended and a new one was started."""
        if self._valid_until is None or boot_time() >= self._valid_until:
            self._say_when_lost("the stream answered too late")
            await self._start_new_lease()
            return False
        self._valid_until = began + self._timing.lease_s
        self._pacer.renewed(self._valid_until)
        return True

    async def _write_lease(self) -> float:
        """Write the lease; return the time before the write, from which the lease counts.

        The allocator counts from the time when it has read the lease, so for it the lease ends later.
        """
        began = boot_time()
        self._reported_demand, self._reported_floor = self._demand()
        lease = Lease(
            provider=self._provider,
            demand=self._reported_demand,
            floor=self._reported_floor,
            version=self._applied_version,
            sent=self._pacer.sent_units,
            lately=self._pacer.sent_in_last_second(),
        )
        if self._valid_until is None:
            self._valid_until = began + self._timing.lease_s
        await self._board.put_lease(self._name, lease, _LEASE_TTL_S)
        return began

    async def _start_new_lease(self) -> None:
        """Give up the share and ask for another one under a new name, so that no share is used by two pods."""
        self._pacer.set_share(0)
        old_name, self._lease_count = self._name, self._lease_count + 1
        self._name = f"{self._pod}={self._lease_count}"
        self._applied_version, self._table_revision, self._valid_until = 0, 0, None
        await self._board.put_lease(old_name, self._last_lease(), _LEASE_TTL_S)

    async def give_back(self) -> None:
        """Stop sending and give the lease back, so that others can use the share soon."""
        self._pacer.give_up()
        try:
            await self._board.put_lease(self._name, self._last_lease(), _LEASE_TTL_S)
        except Unavailable as exc:
            _log.info("lease not given back: it runs out", error=str(exc))

    def _last_lease(self) -> Lease:
        """Make the lease that tells the allocator that this name sends no more."""
        return Lease(
            provider=self._provider, demand=0, version=self._applied_version, sent=self._pacer.sent_units, gone=True
        )
