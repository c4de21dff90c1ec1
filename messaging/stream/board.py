"""The shared buckets as their users see them: values go in and come out, and nobody else knows keys or documents.

What cannot be read counts as absent and is logged once: one bad document stops nobody.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import structlog

from messaging import documents
from messaging.documents import ALLOC, LEADER, BreakerState, Lease, Table, breaker_key, lease_key, pause_key
from messaging.errors import CorruptRecord
from messaging.stream.buckets import Bucket, Hints

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_MOST_NAMED = 1000


class _Documents:
    """Reads the documents of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._named: set[tuple[str, int]] = set()

    async def get(self, key: str, read: documents.Reader[_T]) -> tuple[int, _T | None]:
        """Read (revision, value); the value is None when there is none or nobody can read it. Raises StreamDown."""
        revision, document = await self._bucket.get(key)
        return revision, None if document is None else self.value(key, revision, document, read)

    async def all(self, pattern: str, read: documents.Reader[_T]) -> dict[str, tuple[int, _T]]:
        """Read every key that matches as (revision, value), by the last word of the key; may lag by a moment."""
        prefix = pattern.removesuffix("*")
        found = {}
        for key, (revision, document) in (await self._bucket.all(pattern)).items():
            if (value := self.value(key, revision, document, read)) is not None:
                found[key.removeprefix(prefix)] = (revision, value)
        return found

    def value(self, key: str, revision: int, document: object, read: documents.Reader[_T]) -> _T | None:
        try:
            return read(key, document)
        except CorruptRecord as exc:
            if (key, revision) not in self._named and len(self._named) < _MOST_NAMED:
                self._named.add((key, revision))
                _log.error("unreadable document counts as absent", error=str(exc))
            return None


class BreakerBoard:
    """Breakers and pauses of all providers. Everything raises StreamDown when the server is away."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._documents = _Documents(bucket)

    async def breaker(self, provider: str) -> tuple[int, BreakerState]:
        """Read (revision, state) of one breaker; one that nobody ever wrote is closed."""
        revision, state = await self._documents.get(breaker_key(provider), documents.read_breaker)
        return revision, state or BreakerState()

    async def breakers(self) -> dict[str, BreakerState]:
        """Read every breaker by its provider; may lag by a moment."""
        found = await self._documents.all(breaker_key("*"), documents.read_breaker)
        return {provider: state for provider, (_, state) in found.items()}

    async def set_breaker(self, provider: str, state: BreakerState, revision: int) -> int | None:
        """Write a state if the breaker still stands at `revision`; the new revision, or None: someone was faster."""
        return await self._bucket.compare_and_set(breaker_key(provider), state.to_document(), revision)

    async def pause(self, provider: str) -> tuple[int, float | None]:
        """Read (revision, seconds) of a provider's pause; None when there is none."""
        return await self._documents.get(pause_key(provider), documents.read_pause)

    async def paused(self) -> set[str]:
        """Name the providers that are paused; may lag by a moment."""
        return set(await self._documents.all(pause_key("*"), documents.read_pause))

    async def set_pause(self, provider: str, seconds: float, ttl_s: int) -> int:
        """Tell the provider's other pods of a pause; gives the revision."""
        return await self._bucket.put(pause_key(provider), {"pause_s": seconds}, ttl_s=ttl_s)

    def hints(self, provider: str | None = None) -> AbstractAsyncContextManager[Hints]:
        """Listen for what is written of one provider meanwhile; None: of every breaker."""
        return self._bucket.hints(breaker_key("*") if provider is None else f"*.{provider}")


class LimitsBoard:
    """Leases, shares and who divides them. Everything raises StreamDown when the server is away."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._documents = _Documents(bucket)

    async def table(self) -> tuple[int, Table | None]:
        """Read (revision, table) from the leader; None when there is none."""
        return await self._documents.get(ALLOC, documents.read_table)

    async def set_table(self, table: Table, revision: int) -> int | None:
        """Write the next table; None when someone was faster."""
        return await self._bucket.compare_and_set(ALLOC, table.to_document(), revision)

    async def lease(self, pod: str) -> tuple[int, Lease | None]:
        """Read (revision, lease) of one pod from the leader."""
        return await self._documents.get(lease_key(pod), documents.read_lease)

    async def leases(self) -> dict[str, tuple[int, Lease]]:
        """Read (revision, lease) of every pod; may lag by a moment."""
        return await self._documents.all(lease_key("*"), documents.read_lease)

    async def put_lease(self, pod: str, lease: Lease, ttl_s: int) -> None:
        """Write a pod's lease."""
        await self._bucket.put(lease_key(pod), lease.to_document(), ttl_s=ttl_s)

    async def leader(self) -> tuple[int, str | None]:
        """Read (revision, name) of the coordinator that leads; None when nobody does."""
        return await self._documents.get(LEADER, documents.read_leader)

    async def set_leader(self, name: str, revision: int, ttl_s: int) -> int | None:
        """Lead, or go on leading; None when someone was faster."""
        return await self._bucket.compare_and_set(LEADER, {"name": name}, revision, ttl_s=ttl_s)

    async def resign(self, revision: int) -> None:
        """Let another coordinator lead at once."""
        await self._bucket.compare_and_set(LEADER, None, revision, ttl_s=1)

    @contextlib.asynccontextmanager
    async def on_table(self, heard: Callable[[Table | None], None]) -> AsyncIterator[None]:
        """Call `heard` when a table is written: a hint to read it, which may be lost or come too early."""

        def told(key: str, document: object) -> None:
            heard(None if document is None else self._documents.value(key, 0, document, documents.read_table))

        async with self._bucket.listening(ALLOC, told):
            yield

    @contextlib.asynccontextmanager
    async def on_lease(self, heard: Callable[[str, Lease], None]) -> AsyncIterator[None]:
        """Call `heard(pod, lease)` when a lease is written: a hint, as of `on_table`."""

        def told(key: str, document: object) -> None:
            lease = None if document is None else self._documents.value(key, 0, document, documents.read_lease)
            if lease is not None:
                heard(key.removeprefix(lease_key("")), lease)

        async with self._bucket.listening(lease_key("*"), told):
            yield
