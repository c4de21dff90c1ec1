"""A cached view of the fleet: backlogs, breakers and storage, read in the background so that no call waits for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from messaging.documents import BreakerState, Mode
from messaging.errors import StreamDown
from messaging.routing import ProviderFacts
from messaging.runtime.providers_file import Provider
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from messaging.stream.interface import ApiError, Connection

_log = structlog.get_logger(__name__)

_PAGE = 256
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
        self.breakers = await self._board.breakers()

    async def refresh_backlog(self) -> None:
        """Read each provider's backlog, and how full the storage is; raises StreamDown."""
        backlog = dict.fromkeys(self._providers, 0)
        for info in await self._consumers():
            provider = info["name"].removeprefix("dispatch-").rpartition("-")[0]
            waiting = info.get("num_pending", 0) + info.get("num_ack_pending", 0)
            backlog[provider] = backlog.get(provider, 0) + waiting
        self.backlog = backlog
        account = await self._connection.api("INFO")
        self.storage_limited = limited(account) or self.capacity_bytes > 0
        own = int(account.get("storage", 0)) / self.capacity_bytes if self.capacity_bytes > 0 else 0.0
        self.storage_fill = max(own, _fill(account))

    @property
    def waiting(self) -> int:
        """The messages that wait for a provider, known or not, as of the last reading."""
        return sum(self.backlog.values())

    async def uncounted(self) -> int:
        """Count the messages that no consumer would deliver; reads the backlog anew. Raises StreamDown.

        The queue is counted before and after, because it grows or shrinks meanwhile.
        """
        before = await self._queued()
        await self.refresh_backlog()
        return max(0, min(before, await self._queued()) - self.waiting)

    async def _queued(self) -> int:
        return int((await self._connection.api(f"STREAM.INFO.{topo.SEND}"))["state"]["messages"])

    async def scheduled(self) -> int:
        """Count the messages that wait for their time; raises StreamDown.

        The stream also keeps what has fired, until it is forgotten, under other subjects.
        """
        body = {"subjects_filter": "sms.later.>", "offset": _PAST_ALL}
        return int((await self._connection.api(f"STREAM.INFO.{topo.LATER_STREAM}", body)).get("total", 0))

    async def _consumers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = await self._connection.api(f"CONSUMER.LIST.{topo.SEND}", {"offset": len(found)})
            consumers = page.get("consumers") or []
            found += consumers
            if len(consumers) < _PAGE and len(found) >= page.get("total", 0):
                return found

    async def run(self) -> None:
        """Keep the facts up to date until cancelled."""
        async with self._board.changes() as changes, asyncio.TaskGroup() as group:
            breakers = self._repeat(self.refresh_breakers, partial(changes.wait, self._breakers_every_s))
            backlog = self._repeat(self.refresh_backlog, partial(asyncio.sleep, self._backlog_every_s))
            group.create_task(breakers, name="breaker-view")
            group.create_task(backlog, name="backlog-view")

    async def _repeat(self, refresh: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await refresh()
                self._fresh_at = time.monotonic()
            except (StreamDown, ApiError) as exc:
                _log.warning("fleet view is stale", error=str(exc))
            await pause()


async def names_in_queue(connection: Connection) -> dict[str, int]:
    """Count the messages in the work queue by the provider that their subjects name; reads every subject."""
    found: dict[str, int] = {}
    offset = 0
    while True:
        body = {"subjects_filter": "sms.send.>", "offset": offset}
        info = await connection.api(f"STREAM.INFO.{topo.SEND}", body)
        subjects = info["state"].get("subjects") or {}
        for subject, count in subjects.items():
            name = subject.split(".")[2]
            found[name] = found.get(name, 0) + int(count)
        offset += len(subjects)
        if not subjects or offset >= info.get("total", 0):
            return found


def limited(account: Mapping[str, Any]) -> bool:
    """Whether an account, as the API's INFO describes it, has a storage limit of its own.

    The limit of the whole server (max_file_store) is not shown to clients.
    """
    limit = account.get("limits", {}).get("max_storage", -1)
    return limit > 0 or any(map(limited, (account.get("tiers") or {}).values()))


def _fill(info: Mapping[str, Any]) -> float:
    limit = info.get("limits", {}).get("max_storage", -1)
    tiers = info.get("tiers") or {}
    fills: Iterable[float] = (_fill(tier) for tier in tiers.values())
    own = info.get("storage", 0) / limit if limit and limit > 0 else 0.0
    return float(max([own, *fills]))
