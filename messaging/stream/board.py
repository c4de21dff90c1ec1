"""Typed access to the shared buckets: values go in and come out, and only this module knows keys and documents.

A document that cannot be read counts as absent and is logged once, so that one bad document stops no process.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import structlog

from messaging import documents
from messaging.documents import (
    ALLOC,
    BACKLOG,
    LEADER,
    Backlog,
    BreakerState,
    Lease,
    Pause,
    Table,
    breaker_key,
    lease_key,
    pause_key,
)
from messaging.errors import CorruptRecord
from messaging.stream.buckets import Bucket, Changes

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_MAX_LOGGED = 1000


class _Documents:
    """Reads the documents of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._logged: set[tuple[str, int]] = set()
        self._last: dict[str, tuple[object, object]] = {}

    async def get(self, key: str, read: documents.Reader[_T]) -> tuple[int, _T | None]:
        """Read (revision, value); the value is None when it is absent or cannot be read. Raises StreamDown."""
        revision, document = await self._bucket.get(key)
        return revision, None if document is None else self.value(key, revision, document, read)

    async def all(self, pattern: str, read: documents.Reader[_T]) -> dict[str, tuple[int, _T]]:
        """Read (revision, value) of every matching key, by what the key has for the `*`; may lag by a moment."""
        prefix = pattern.removesuffix("*")
        found = {}
        for key, (revision, document) in (await self._bucket.all(pattern)).items():
            if (value := self.value(key, revision, document, read)) is not None:
                found[key.removeprefix(prefix)] = (revision, value)
        return found

    def same_or_value(self, key: str, revision: int, document: object, read: documents.Reader[_T]) -> _T | None:
        """Return the value as `value` does, and for an unchanged document the same one again."""
        last = self._last.get(key)
        if last is not None and last[0] == document:
            return last[1]  # type: ignore[return-value]  # each key has one reader
        value = self.value(key, revision, document, read)
        self._last[key] = (document, value)
        return value

    def value(self, key: str, revision: int, document: object, read: documents.Reader[_T]) -> _T | None:
        try:
            return read(key, document)
        except CorruptRecord as exc:
            if (key, revision) not in self._logged and len(self._logged) < _MAX_LOGGED:
                self._logged.add((key, revision))
                _log.error("unreadable document counts as absent", error=str(exc))
            return None


class BreakerBoard:
    """The breakers and pauses of all providers. Every method raises StreamDown when the server is away."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._documents = _Documents(bucket)

    async def breaker(self, provider: str) -> tuple[int, BreakerState]:
        """Read (revision, state) of one breaker; one that was never written is closed."""
        revision, state = await self._documents.get(breaker_key(provider), documents.read_breaker)
        return revision, state or BreakerState()

    async def everything(self) -> tuple[dict[str, BreakerState], dict[str, int]]:
        """Read all breakers, and the newest revision of each provider's breaker and pause; may lag by a moment."""
        states: dict[str, BreakerState] = {}
        revisions: dict[str, int] = {}
        for key, (revision, document) in (await self._bucket.newest("*.*")).items():
            kind, _, provider = key.partition(".")
            revisions[provider] = max(revision, revisions.get(provider, 0))
            if kind == "breaker" and document is not None:
                state = self._documents.value(key, revision, document, documents.read_breaker)
                if state is not None:
                    states[provider] = state
        return states, revisions

    async def breakers(self) -> dict[str, BreakerState]:
        """Read all breakers, by provider; may lag by a moment."""
        states, _ = await self.everything()
        return states

    async def set_breaker(self, provider: str, state: BreakerState, revision: int) -> int | None:
        """Write a state if the breaker is still at `revision`; returns the new revision, None when it is not."""
        return await self._bucket.compare_and_set(breaker_key(provider), state.to_document(), revision)

    async def pause(self, provider: str) -> tuple[int, Pause | None]:
        """Read (revision, pause) of a provider's pause; None when there is none."""
        return await self._documents.get(pause_key(provider), documents.read_pause)

    async def pauses(self) -> dict[str, Pause]:
        """Read all pauses, by provider; may lag by a moment."""
        found = await self._documents.all(pause_key("*"), documents.read_pause)
        return {key: pause for key, (_, pause) in found.items()}

    async def set_pause(self, provider: str, pause: Pause, ttl_s: int) -> int:
        """Write a pause for all pods of a provider; returns the revision."""
        return await self._bucket.put(pause_key(provider), pause.to_document(), ttl_s=ttl_s)

    async def end_pause(self, provider: str) -> None:
        """Let the pods of a provider send again."""
        await self._bucket.delete(pause_key(provider))

    def changes(self, provider: str | None = None) -> AbstractAsyncContextManager[Changes]:
        """Subscribe to the breaker and the pause of one provider; None: to all breakers."""
        return self._bucket.changes(breaker_key("*") if provider is None else f"*.{provider}")


class LimitsBoard:
    """The leases, the table of shares and the leading coordinator. Every method raises StreamDown."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._documents = _Documents(bucket)
        self._on_table: list[Callable[[Table | None], None]] = []
        self._listening = contextlib.AsyncExitStack()
        self._subscribing = asyncio.Lock()

    async def table(self) -> tuple[int, Table | None]:
        """Read (revision, table) from the stream's leader; None when there is no table."""
        revision, document = await self._bucket.get(ALLOC)
        if document is None:
            return revision, None
        return revision, self._documents.same_or_value(ALLOC, revision, document, documents.read_table)

    async def set_table(self, table: Table, revision: int) -> int | None:
        """Write the next table if it is still at `revision`; returns the new revision, None when it is not."""
        return await self._bucket.compare_and_set(ALLOC, table.to_document(), revision)

    async def lease(self, pod: str) -> tuple[int, Lease | None]:
        """Read (revision, lease) of one pod from the stream's leader; None when there is no lease."""
        return await self._documents.get(lease_key(pod), documents.read_lease)

    async def leases(self) -> dict[str, tuple[int, Lease]]:
        """Read (revision, lease) of all pods, by pod; may lag by a moment."""
        return await self._documents.all(lease_key("*"), documents.read_lease)

    async def put_lease(self, pod: str, lease: Lease, ttl_s: int) -> None:
        """Write a pod's lease, which expires after `ttl_s`."""
        await self._bucket.put(lease_key(pod), lease.to_document(), ttl_s=ttl_s)

    async def put_lease_unless_changed(self, pod: str, lease: Lease, ttl_s: int, table_revision: int) -> bool:
        """Write a pod's lease only if the table is still at `table_revision`; False when it is not."""
        return await self._bucket.put_while(lease_key(pod), lease.to_document(), ALLOC, table_revision, ttl_s=ttl_s)

    async def leader(self) -> tuple[int, str | None]:
        """Read (revision, name) of the leading coordinator; None when there is none."""
        return await self._documents.get(LEADER, documents.read_leader)

    async def rests_s(self) -> float | None:
        """Read for how many seconds the leading coordinator lets pods rest: 0 for an older one, None without any."""
        _, rests_s = await self._documents.get(LEADER, documents.read_rests)
        return rests_s

    async def set_leader(self, name: str, revision: int, ttl_s: int, rests_s: float = 0.0) -> int | None:
        """Become or remain the leading coordinator; returns the new revision, None when another one leads."""
        return await self._bucket.compare_and_set(LEADER, {"name": name, "rests_s": rests_s}, revision, ttl_s=ttl_s)

    async def resign(self, revision: int) -> None:
        """Stop leading, so that another coordinator can lead at once."""
        await self._bucket.compare_and_set(LEADER, None, revision, ttl_s=1)

    @contextlib.asynccontextmanager
    async def on_table(self, notify: Callable[[Table | None], None]) -> AsyncIterator[None]:
        """Call `notify(table)` for each write of the table; it may be lost, or come before the table can be read.

        All who wait on one board share a subscription, and the table is read once for all of them.
        """
        async with self._subscribing:
            if not self._on_table:
                await self._listening.enter_async_context(self._bucket.on_write(ALLOC, self._pass_table_on))
            self._on_table.append(notify)
        try:
            yield
        finally:
            self._on_table.remove(notify)
            async with self._subscribing:
                if not self._on_table:
                    await self._listening.aclose()

    def _pass_table_on(self, key: str, document: object) -> None:
        table = None if document is None else self._documents.same_or_value(key, 0, document, documents.read_table)
        for notify in list(self._on_table):
            notify(table)

    async def put_backlog(self, backlog: Backlog, ttl_s: int) -> None:
        """Write the count of what waits, for every process; it expires after `ttl_s`."""
        await self._bucket.put(BACKLOG, backlog.to_document(), ttl_s=ttl_s)

    @contextlib.asynccontextmanager
    async def on_backlog(self, notify: Callable[[Backlog], None]) -> AsyncIterator[None]:
        """Call `notify(backlog)` for each count of what waits; may be lost or early, as that of `on_table`."""

        def notify_key(key: str, document: object) -> None:
            backlog = None if document is None else self._documents.value(key, 0, document, documents.read_backlog)
            if backlog is not None:
                notify(backlog)

        async with self._bucket.on_write(BACKLOG, notify_key):
            yield

    @contextlib.asynccontextmanager
    async def on_lease(self, notify: Callable[[str, Lease], None]) -> AsyncIterator[None]:
        """Call `notify(pod, lease)` for each write of a lease; may be lost or early, as that of `on_table`."""

        def notify_key(key: str, document: object) -> None:
            lease = None if document is None else self._documents.value(key, 0, document, documents.read_lease)
            if lease is not None:
                notify(key.removeprefix(lease_key("")), lease)

        async with self._bucket.on_write(lease_key("*"), notify_key):
            yield
