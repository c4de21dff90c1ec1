"""Snapshots of the fleet for operators: rates, shares, backlogs and breakers of every provider."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs

from messaging.documents import BreakerState, Grant, Lease, Pause
from messaging.instants import utc
from messaging.runtime.config import Settings
from messaging.runtime.providers_file import Provider
from messaging.stream import topology as topo
from messaging.stream.access import access_of
from messaging.stream.backlog import names_in_queue
from messaging.stream.board import BreakerBoard, LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.clock import StreamClock, sentence
from messaging.stream.connection import open_connection
from messaging.stream.fleet import FleetView
from messaging.stream.interface import Connection
from messaging.stream.notices import NoticeBoard

_SILENT_S = 3.0
"""A pod whose report is older sends nothing: it renews its lease at least once a second."""


@attrs.frozen
class LaneSnapshot:
    """One provider at one moment. `rate` is what was sent in the last second; None while it is not known.

    `pause` says until when and why nothing is sent to it for a short time; `breaker_since` since when its breaker is
    not closed (Unix seconds, 0: it is closed, or nobody noted the time).
    """

    provider: str
    pods: int
    share: int
    limit: int
    rate: float | None
    backlog: int
    breaker: str
    breaker_reason: str
    forced: bool
    paused: bool
    pause: str = ""
    breaker_since: float = 0.0


@attrs.frozen
class FleetSnapshot:
    """The fleet at one moment. `limit` is sends a second of all providers; `scheduled` counts messages for later.

    `notices` say what keeps processes from their work, and how this machine's clock differs from the stream's.
    """

    lanes: tuple[LaneSnapshot, ...]
    limit: int
    scheduled: int
    notices: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Sends a second, summed over all providers."""
        return sum(lane.rate or 0.0 for lane in self.lanes)

    @property
    def backlog(self) -> int:
        """Waiting messages, summed over all providers."""
        return sum(lane.backlog for lane in self.lanes)


@attrs.frozen
class _Seen:
    """A pod's report as it was first seen, at a monotonic time."""

    revision: int
    at: float
    sent: int


class FleetWatch:
    """Takes snapshots. Rates are what the pods' leases say that was sent in a whole second: never above the limit."""

    def __init__(self, connection: Connection, providers: Sequence[Provider], limit: int) -> None:
        self._view = FleetView(connection, providers, room_s=30)
        self._limits = LimitsBoard(Bucket(connection, topo.LIMITS_BUCKET))
        self._breakers = BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))
        self._providers = providers
        self._limit = limit
        self._connection = connection
        self._notices = NoticeBoard(connection)
        self._clock = StreamClock(connection)
        self._before: dict[str, _Seen] = {}

    async def snapshot(self) -> FleetSnapshot:
        """Read the current values; raises StreamDown."""
        await self._view.refresh_breakers()
        await self._view.refresh_backlog()
        leases = await self._limits.leases()
        now = time.monotonic()
        _, table = await self._limits.table()
        grants = table.grants if table else {}
        pauses = await self._breakers.pauses()
        alive = {pod: lease for pod, (_, lease) in leases.items() if not lease.gone}
        rates = self._rates({pod: leases[pod] for pod in alive}, now)
        lanes = tuple(self._lane(one, alive, grants, rates, pauses) for one in self._providers)
        return FleetSnapshot(lanes, self._limit, await self._view.scheduled(), await self._notes())

    async def _notes(self) -> tuple[str, ...]:
        await self._clock.compare()
        own = () if self._clock.right else (f"here: {sentence(self._clock.ahead_s)}",)
        notices = sorted((await self._notices.all()).items())
        return (
            own
            + tuple(await self._unknown())
            + tuple(f"{notice.service} {pod}: {detail}" for pod, notice in notices for _, detail in notice.problems)
        )

    async def _unknown(self) -> Iterable[str]:
        """Say what waits for providers that are not in the file."""
        known = {provider.name for provider in self._providers}
        waiting = {name: count for name, count in self._view.backlog.items() if count and name not in known}
        if await self._view.uncounted():  # their provider has no consumer
            names = await names_in_queue(self._connection)
            waiting |= {name: count for name, count in names.items() if name not in self._view.backlog}
        return [
            f"{name} is not in the providers file, and {count:,} wait for it: dispatchers send them to other "
            "providers, except those whose callers allow no other"
            for name, count in sorted(waiting.items())
        ]

    def _lane(
        self,
        provider: Provider,
        alive: Mapping[str, Lease],
        grants: Mapping[str, Grant],
        rates: Mapping[str, float],
        pauses: Mapping[str, Pause],
    ) -> LaneSnapshot:
        name = provider.name
        pods = [pod for pod, lease in alive.items() if lease.provider == name and pod in grants]
        breaker = self._view.breakers.get(name, BreakerState())
        known = [rates[pod] for pod in pods if pod in rates]
        return LaneSnapshot(
            name,
            len(pods),
            sum(grants[pod].share for pod in pods),
            provider.rate_per_s,
            sum(known) if known else None,
            self._view.backlog.get(name, 0),
            str(breaker.mode),
            breaker.reason,
            breaker.forced,
            paused := name in pauses and pauses[name].left_s(time.time()) > 0,
            _said(pauses[name]) if paused else "",
            breaker.since,
        )

    def _rates(self, leases: Mapping[str, tuple[int, Lease]], now: float) -> dict[str, float]:
        """Return what each pod says that it sent in a second; 0 for one that has stopped reporting."""
        rates = {}
        for pod, (revision, lease) in leases.items():
            before = self._before.get(pod)
            changed = before is None or before.revision != revision
            seen = _Seen(revision, now, lease.sent) if before is None or changed else before
            if lease.lately is not None:
                rates[pod] = float(lease.lately) if now - seen.at < _SILENT_S else 0.0
            elif before is not None:  # a pod of an older version
                rates[pod] = max(0.0, lease.sent - before.sent) / max(now - before.at, 0.001)
                seen = _Seen(revision, now, lease.sent)
            self._before[pod] = seen
        return rates


def _said(pause: Pause) -> str:
    if not pause.until:
        return "yes"  # written by a pod of an older version
    return f"until {utc(pause.until)}: {pause.reason or 'no reason given'}"


@asynccontextmanager
async def watching(
    settings: Settings, providers: Sequence[Provider], *, connect_timeout_s: float = 5.0
) -> AsyncIterator[FleetWatch]:
    """Open a FleetWatch on a connection of its own; raises StreamDown."""
    url = settings.servers.nats.reveal()
    access = access_of(settings.servers)
    async with open_connection(url, "smsctl", access, connect_timeout_s=connect_timeout_s) as connection:
        yield FleetWatch(connection, providers, settings.fleet.rate_per_s)
