"""The pod's side of the allocation: renew the lease, apply the table, confirm what was lowered."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import structlog

from dispatcher.pacer import Pacer
from messaging.errors import Unavailable
from messaging.limiter import Lease, Timing
from messaging.stream.buckets import Bucket

_log = structlog.get_logger(__name__)

_LEASE_TTL_S = 30
ALLOC, LEADER = "alloc", "leader"


def lease_key(pod: str) -> str:
    """Where a pod's lease stands in the bucket."""
    return f"lease.{pod}"


class LeaseHolder:
    """Keeps one pod's lease. `demand` gives (units a second that it could use, its dearest waiting message)."""

    def __init__(
        self,
        bucket: Bucket,
        pod: str,
        provider: str,
        pacer: Pacer,
        timing: Timing,
        demand: Callable[[], tuple[int, int]],
    ) -> None:
        self._bucket = bucket
        self._pod = pod
        self._provider = provider
        self._pacer = pacer
        self._timing = timing
        self._demand = demand
        self._revision = 0
        self._version = 0

    async def run(self) -> None:
        """Renew until cancelled; while the bucket is away the lease runs out by itself."""
        while True:
            began = time.monotonic()
            try:
                await self.sync()
            except Unavailable as exc:
                _log.debug("lease not renewed", error=str(exc))
            spent = time.monotonic() - began
            jitter = random.uniform(-0.04, 0.04) * self._timing.renew_s  # noqa: S311
            await asyncio.sleep(max(0.02, self._timing.renew_s - spent + jitter))

    async def sync(self) -> None:
        """Renew, read the table, apply it; a change is confirmed by a second renewal."""
        await self._renew()
        revision, document = await self._bucket.get(ALLOC)
        if document is None or revision <= self._revision:
            return
        self._revision = revision
        grant = document["grants"].get(self._pod)
        self._pacer.set_share(int(grant["share"]) if grant else 0)
        self._version = int(document["version"])
        await self._renew()

    async def _renew(self) -> None:
        began = time.monotonic()
        demand, floor = self._demand()
        lease = Lease(self._provider, demand, floor, self._version, self._pacer.sent_units)
        await self._bucket.put(lease_key(self._pod), to_document(lease), ttl_s=_LEASE_TTL_S)
        # Counted from before the renewal was sent: the allocator counts from when it sees it, which is later.
        self._pacer.renewed(began + self._timing.lease_s)

    async def give_back(self) -> None:
        """Send nothing more, and say so, so that others may use the share at once."""
        self._pacer.give_up()
        lease = Lease(self._provider, 0, 1, self._version, self._pacer.sent_units, gone=True)
        try:
            await self._bucket.put(lease_key(self._pod), to_document(lease), ttl_s=_LEASE_TTL_S)
        except Unavailable as exc:
            _log.info("lease runs out by itself", error=str(exc))


def to_document(lease: Lease) -> dict[str, Any]:
    """Write a lease for the bucket."""
    return {
        "provider": lease.provider,
        "demand": lease.demand,
        "floor": lease.floor,
        "version": lease.version,
        "sent": lease.sent,
        "gone": lease.gone,
    }


def from_document(document: dict[str, Any]) -> Lease:
    """Read a lease from the bucket."""
    return Lease(
        str(document["provider"]),
        int(document["demand"]),
        int(document.get("floor", 1)),
        int(document.get("version", 0)),
        int(document.get("sent", 0)),
        bool(document.get("gone", False)),
    )
