"""A cached view of the fleet: backlogs, breakers and storage, read in the background so that no call waits for it.

A coordinator counts the backlog for everybody. While none is heard, each view counts for itself.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

import structlog

from messaging.documents import Backlog, BreakerState, Mode
from messaging.errors import StreamDown
from messaging.model import Lane
from messaging.routing import ProviderFacts
from messaging.runtime.providers_file import Provider
from messaging.stream import topology as topo
from messaging.stream.backlog import BacklogCounter
from messaging.stream.board import BreakerBoard, LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.interface import ApiError, Connection

_log = structlog.get_logger(__name__)

HEARD_S = 2.0
"""A coordinator counts twice a second; when nothing was heard for this long, a view counts for itself."""

NoteCount = Callable[[Lane, int], None]
"""Takes the number of messages that wait in a lane or are not acknowledged."""

_PAST_ALL = 2**31 - 1
"""An offset behind all subjects: only their number is wanted."""
UNLIMITED = (
    "the stream's account has no storage limit, so SMSGW_STORAGE_FILL cannot hold: "
    "give the account a max_file in nats-server's configuration, or set SMSGW_STORAGE_MAX_BYTES to what it may use"
)
"""The warning to log when the account is not `limited`."""


class FleetView:
    """The latest known facts. `run` keeps them up to date, and `fresh` says whether it has succeeded lately."""

    def __init__(
        self,
        connection: Connection,
        providers: Sequence[Provider],
        room_s: float,
        *,
        breakers_every_s: float = 0.8,
        backlog_every_s: float = 0.5,
        capacity_bytes: int = 0,
    ) -> None:
        self._connection = connection
        self._board = BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))
        self._providers = {provider.name: provider for provider in providers}
        self._room = {provider.name: max(1, int(provider.rate_per_s * room_s)) for provider in providers}
        self._breakers_every_s = breakers_every_s
        self._backlog_every_s = backlog_every_s
        self._fresh_at = float("-inf")
        self.capacity_bytes = capacity_bytes
        self._counter = BacklogCounter(connection)
        self._heard_at = float("-inf")
        self.counted = Backlog("")
        self._lanes: list[tuple[str, NoteCount, Callable[[int], None]]] = []
        self.breakers: dict[str, BreakerState] = {}
        self.backlog: dict[str, int] = dict.fromkeys(self._providers, 0)
        self.storage_fill = 0.0
        self.storage_limited = True
        self._cached: tuple[object, object, dict[str, ProviderFacts]] = (None, None, {})

    @property
    def providers(self) -> Mapping[str, Provider]:
        """The configured providers by name, in the file's order."""
        return self._providers

    def fresh(self, within_s: float = 2.5) -> bool:
        """Whether the stream has answered in the last `within_s` seconds."""
        return time.monotonic() < self._fresh_at + within_s

    def facts(self) -> dict[str, ProviderFacts]:
        """Return what routing needs to know; the same object until breakers or backlog are read again."""
        if self._cached[0] is not self.breakers or self._cached[1] is not self.backlog:
            facts = {name: self._facts_of(provider) for name, provider in self._providers.items()}
            self._cached = (self.breakers, self.backlog, facts)
        return self._cached[2]

    def _facts_of(self, provider: Provider) -> ProviderFacts:
        backlog = self.backlog.get(provider.name, 0)
        mode = self.breakers.get(provider.name, BreakerState()).mode
        # A half-open breaker lets one message through, as its probe: a waiting message will be that one.
        is_open = mode is Mode.OPEN or (mode is Mode.HALF_OPEN and backlog > 0)
        return ProviderFacts(
            provider.name,
            provider.weight,
            provider.priority,
            provider.enabled,
            provider.draining,
            is_open,
            backlog,
            self._room[provider.name],
        )

    async def refresh_breakers(self) -> None:
        """Read all breakers; raises StreamDown."""
        self.breakers, revisions = await self._board.everything()
        for provider, _, note_newest in self._lanes:
            note_newest(revisions.get(provider, 0))

    async def _freshly_refresh_breakers(self) -> None:
        await self.refresh_breakers()
        self._fresh_at = time.monotonic()

    async def refresh_backlog(self) -> None:
        """Count each provider's backlog, and how full the storage is; raises StreamDown."""
        self._adopt(await self._counter.count())

    def _adopt(self, counted: Backlog) -> None:
        self.counted = counted
        self.backlog = dict.fromkeys(self._providers, 0) | counted.of_each()
        self.storage_limited = counted.storage_limited or self.capacity_bytes > 0
        own = counted.storage_bytes / self.capacity_bytes if self.capacity_bytes > 0 else 0.0
        self.storage_fill = max(own, counted.storage_fill)
        for provider, note_count, _ in self._lanes:
            for lane in Lane:
                note_count(lane, counted.in_lane(provider, lane))

    def _hear(self, counted: Backlog) -> None:
        """Take over what a coordinator has counted."""
        self._heard_at = time.monotonic()
        self._adopt(counted)

    async def _refresh_unless_heard(self) -> None:
        """Count only when no coordinator has lately: it counts once, for every process."""
        if time.monotonic() >= self._heard_at + HEARD_S:
            heard_at = self._heard_at
            counted = await self._counter.count()
            self._fresh_at = time.monotonic()
            if self._heard_at == heard_at:
                self._adopt(counted)

    @contextlib.asynccontextmanager
    async def listening(
        self, provider: str, note_count: NoteCount, note_newest: Callable[[int], None]
    ) -> AsyncIterator[None]:
        """Tell one provider's lane, meanwhile, each count and the newest revision of its breaker and pause."""
        lane = (provider, note_count, note_newest)
        self._lanes.append(lane)
        try:
            yield
        finally:
            self._lanes.remove(lane)

    @property
    def waiting(self) -> int:
        """The messages that wait for a provider, known or not, as of the last reading."""
        return sum(self.backlog.values())

    async def uncounted(self) -> int:
        """Count the messages that no consumer would deliver; raises StreamDown."""
        await self._refresh_unless_heard()
        return self.counted.uncounted

    async def scheduled(self) -> int:
        """Count the messages that wait for their time; raises StreamDown.

        The stream also keeps what has fired, until it is forgotten, under other subjects.
        """
        body = {"subjects_filter": "sms.later.>", "offset": _PAST_ALL}
        return int((await self._connection.api(f"STREAM.INFO.{topo.LATER_STREAM}", body)).get("total", 0))

    async def run(self) -> None:
        """Keep the facts up to date until cancelled."""
        limits = LimitsBoard(Bucket(self._connection, topo.LIMITS_BUCKET))
        async with (
            self._board.changes() as changes,
            limits.on_backlog(self._hear),
            asyncio.TaskGroup() as group,
        ):
            breakers = self._repeat(self._freshly_refresh_breakers, partial(changes.wait, self._breakers_every_s))
            backlog = self._repeat(self._refresh_unless_heard, partial(asyncio.sleep, self._backlog_every_s))
            group.create_task(breakers, name="breaker-view")
            group.create_task(backlog, name="backlog-view")

    async def _repeat(self, refresh: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await refresh()
            except (StreamDown, ApiError) as exc:
                _log.warning("fleet view is stale", error=str(exc))
            await pause()
