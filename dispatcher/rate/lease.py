"""Keeps a pod's lease: renews it, applies the table of shares, and confirms a lowered share.

A lease that has ended is never renewed, because its share may belong to another pod by now. The pod abandons it and
takes a new lease under a new name (`<pod>=2`); the allocator treats that name as a new pod.

A pod without work rests: it lets its lease end, and renews a resting lease every ten seconds instead of a usual one
twice a second. Its share stays reserved, unless others need it. A resting lease, and the lease that takes the share up
again, are written under the condition that the table is still the one that the pod has applied: so the pod cannot use
a share that was lowered meanwhile, and the allocator may take a share from a pod that rests and does not answer. A pod
rests only while the leading coordinator says that it knows of that.
"""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import structlog

from dispatcher.rate.allocator import Timing
from dispatcher.rate.pacer import Pacer
from dispatcher.rate.share_watch import ShareWatch
from messaging.documents import Grant, Lease, Table
from messaging.errors import Unavailable
from messaging.runtime.boot_clock import boot_time
from messaging.runtime.problems import Problems
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import STORE_DELAY_S

_log = structlog.get_logger(__name__)

_LEASE_TTL_S = 30
_RENEW_SOONEST_S = 0.05
_NO_SHARE_S = 5.0
_REST_AFTER_S = 5.0
_RENEWALS_IN_REST = 3
_TRIES, _SLOW_PART = 3, 20


class LeaseHolder:
    """Keeps one pod's lease.

    `demand` returns (units a second that the pod could use, the cost of its most expensive waiting message). `idle`
    tells whether the pod has no message at all: then it rests after a while.
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
        idle: Callable[[], bool] = lambda: False,
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
        self._slow = False
        self._table_moved = False
        """Whether a table was heard of that is not applied: then the lease is not written on the one before."""
        self._idle = idle
        self._idle_since: float | None = None
        self._granted = False
        self._rest_until: float | None = None
        """Until when a resting pod may take its share up again; None while it does not rest."""
        self._wanted = False
        pacer.on_wanted = self._wake

    async def run(self) -> None:
        """Renew until cancelled; while the bucket cannot be reached the lease runs out."""
        async with self._board.on_table(self._on_table):
            while True:
                began = boot_time()
                try:
                    await (self._rest_or_wake() if self._may_rest() else self.sync())
                except Unavailable as exc:
                    _log.debug("lease not renewed", error=str(exc))
                    self._say_when_lost(str(exc))
                await self._wait_to_renew(began)

    def _wake(self) -> None:
        """Take the share up again if the pod rests, or ask for a larger one, because a message waits for a permit."""
        if self._rest_until is not None:
            self._wanted = True
            self._renew_now.set()
        elif self._demand_has_changed():
            self._renew_now.set()

    def _may_rest(self) -> bool:
        """Whether the pod rests or may begin to: it was idle for a while, and its share is in the table."""
        if not self._idle():
            self._idle_since = None
            return self._rest_until is not None
        now = boot_time()
        if self._idle_since is None:
            self._idle_since = now
        rested = now >= self._idle_since + _REST_AFTER_S
        valid = self._valid_until is not None and now < self._valid_until
        return self._rest_until is not None or (rested and valid and self._granted)

    def _on_table(self, table: Table | None) -> None:
        """Renew at once when a table changes this pod's share, or arrives while another one is being read."""
        grant = table.grants.get(self._name) if table else None
        applied = grant is not None and grant.share == self._pacer.share and grant.held_version <= self._applied_version
        if self._reading_table or not applied:
            self._table_moved = True
            self._renew_now.set()

    async def _wait_to_renew(self, began: float) -> None:
        """Wait until the next renewal: sooner when the share or the demand has changed."""
        jitter = random.uniform(0.92, 1.0)  # noqa: S311
        if self._rest_until is not None:
            await self._wait_in_rest(self._timing.rest_s / _RENEWALS_IN_REST * jitter)
            return
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

    async def _wait_in_rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._renew_now.wait()
        except TimeoutError:
            return
        self._renew_now.clear()
        if self._wanted:
            self._wanted = False
        else:
            await asyncio.sleep(STORE_DELAY_S)

    async def _rest_or_wake(self) -> None:
        """Renew a resting lease, or take the share up again if there is work; raises Unavailable.

        The table is read again, and the lease written again, when the table has changed.
        """
        self._reading_table = True
        try:
            for _ in range(_TRIES):
                began, wakes = boot_time(), not self._idle()
                asked = [self._board.rests_s(), *([self._board.table()] if wakes else [])]
                written, allowed_s, *read = await _all_of(self._write_lease_unless_changed(rests=not wakes), *asked)
                ended = self._rest_until is not None and began >= self._rest_until
                if ended or not self._rest_is_allowed(allowed_s):
                    await self._end_rest("it rested for too long" if ended else "the coordinator lets no pod rest")
                    return
                if written:
                    self._rest_until = None if wakes else began + self._timing.rest_s
                    if wakes:
                        self._wanted = False
                        self._valid_until = began + self._timing.lease_s
                        self._pacer.renewed(self._valid_until)
                    return
                if not await self._take(*(read[0] if read else await self._board.table())):
                    return
        finally:
            self._reading_table = False

    def _rest_is_allowed(self, allowed_s: float | None) -> bool:
        """Whether the leading coordinator knows of resting pods.

        While none leads, nobody can have given the share to others, and a pod that rests goes on; none begins to.
        """
        return self._rest_until is not None if allowed_s is None else allowed_s >= self._timing.rest_s

    async def _end_rest(self, why: str) -> None:
        """Go on as a pod that does not rest, with a new lease if the usual one has ended meanwhile."""
        self._rest_until, self._idle_since = None, None
        self._renew_now.set()
        if self._valid_until is None or boot_time() >= self._valid_until:
            _log.info("a new lease is needed", provider=self._provider, why=why)
            await self._start_new_lease()

    async def _take(self, revision: int, table: Table | None) -> bool:
        """Apply a table while resting; False when the table was lost, so that a new lease was begun."""
        if table is None or revision < self._table_revision:
            self._watch.lost("the table of shares was lost", 0.0)
            self._rest_until = None
            await self._start_new_lease()
            return False
        self._apply(revision, table)
        await self._watch.note(self._name, table, self._pacer.share)
        return True

    def _apply(self, revision: int, table: Table) -> Grant | None:
        """Use the share that a table gives."""
        grant = table.grants.get(self._name)
        self._table_revision, self._applied_version = revision, table.version
        self._granted = grant is not None
        self._pacer.set_share(grant.share if grant else 0)
        return grant

    def _demand_has_changed(self) -> bool:
        demand, floor = self._demand()
        return abs(demand - self._reported_demand) > max(2, self._reported_demand // 4) or floor > self._reported_floor

    async def sync(self) -> None:
        """Renew the lease and apply the table; a second renewal confirms a lowered share. Raises Unavailable.

        While the table is the one that was applied, the lease alone is written, under that condition. Else the lease is
        written and the table read at once, not one after the other: on a slow network the lease would end before the
        second answer came. A table that was read since `began` shows that the share was valid then.
        """
        if self._pacer.share > 0 and not self._table_moved and await self._renew_unless_changed():
            return
        self._table_moved = False
        self._reading_table = True
        try:
            began, read = await _all_of(self._write_lease(), self._board.table())
            await self._apply_table(began, *read)
        finally:
            self._reading_table = False

    async def _renew_unless_changed(self) -> bool:
        """Renew the lease if the table has not changed; False when it has, or when the lease has ended.

        On a slow network there is no time for a second request, so this one is not made.
        """
        began = boot_time()
        if self._valid_until is None or began >= self._valid_until or self._slow:
            self._slow = False
            return False
        written = await self._write_lease_unless_changed(rests=False)
        self._slow = boot_time() - began > self._timing.lease_s / _SLOW_PART
        return written and await self._extend(began)

    def _say_when_lost(self, why: str) -> None:
        """Log a lease that has ended; until then it may still be renewed."""
        now = boot_time()
        if self._rest_until is None and self._valid_until is not None and now >= self._valid_until:
            self._watch.lost(why, now - self._valid_until + self._timing.lease_s)

    async def _apply_table(self, began: float, revision: int, table: Table | None) -> None:
        if self._table_revision and (table is None or revision < self._table_revision):
            self._watch.lost("the table of shares was lost", 0.0)
            await self._start_new_lease()
        elif await self._extend(began) and table is not None and revision != self._table_revision:
            before = self._applied_version
            grant = self._apply(revision, table)
            if grant is not None and grant.held_version > before:
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
        lease = self._lease()
        if self._valid_until is None:
            self._valid_until = began + self._timing.lease_s
        await self._board.put_lease(self._name, lease, _LEASE_TTL_S)
        return began

    async def _write_lease_unless_changed(self, *, rests: bool) -> bool:
        lease = attrs.evolve(self._lease(), rests_s=self._timing.rest_s if rests else 0.0)
        ttl_s = _LEASE_TTL_S + (math.ceil(self._timing.rest_s) if rests else 0)
        return await self._board.put_lease_unless_changed(self._name, lease, ttl_s, self._table_revision)

    def _lease(self) -> Lease:
        self._reported_demand, self._reported_floor = self._demand()
        return Lease(
            provider=self._provider,
            demand=self._reported_demand,
            floor=self._reported_floor,
            version=self._applied_version,
            sent=self._pacer.sent_units,
            lately=self._pacer.sent_in_last_second(),
        )

    async def _start_new_lease(self) -> None:
        """Give up the share and ask for another one under a new name, so that no share is used by two pods."""
        self._pacer.set_share(0)
        old_name, self._lease_count = self._name, self._lease_count + 1
        self._name = f"{self._pod}={self._lease_count}"
        self._applied_version, self._table_revision, self._valid_until = 0, 0, None
        self._granted = False
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


async def _all_of(*requests: Coroutine[Any, Any, Any]) -> list[Any]:
    """Make requests at once; raises the first one's error only after all have ended."""
    found = await asyncio.gather(*requests, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found
