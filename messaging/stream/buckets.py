"""A JetStream key-value bucket: small documents, written by compare-and-set, read from the leader."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from messaging.stream import topology as topo
from messaging.stream.interface import Busy, Connection, Record, Refused, Stored

STORE_DELAY_S = 0.01
"""A notification arrives while the document is on its way to the bucket; after this time it is stored."""


class Changes:
    """Notifications that a key was written, so that a reader need not wait for its next regular read."""

    def __init__(self) -> None:
        self._notified = asyncio.Event()

    def notify(self) -> None:
        """Note that a key was written."""
        self._notified.set()

    async def wait(self, at_most_s: float) -> None:
        """Wait for a notification, or for `at_most_s`: a notification may be lost."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._notified.wait()
        except TimeoutError:
            return
        self._notified.clear()  # before the caller reads: a write during that read notifies again
        await asyncio.sleep(STORE_DELAY_S)


class Bucket:
    """One bucket; keys hold JSON documents. Every method raises StreamDown when the server is away."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    async def get(self, key: str) -> tuple[int, Any]:
        """Read (revision, document); without a document it is (revision of the deletion marker or 0, None)."""
        record = await self._connection.last(self._stream, self._prefix + key)
        return (0, None) if record is None else (record.sequence, _document(record))

    async def put(self, key: str, document: Any, *, ttl_s: int | None = None) -> int:
        """Write without a condition; returns the revision."""
        answer = await self._connection.publish(self._prefix + key, _bytes(document), _ttl(ttl_s))
        return answer.sequence if isinstance(answer, Stored) else 0

    async def compare_and_set(self, key: str, document: Any, revision: int, *, ttl_s: int | None = None) -> int | None:
        """Write only if the key is still at `revision`; returns the new revision, None when it is not."""
        headers = {topo.H_EXPECTED: str(revision), **_ttl(ttl_s)}
        match await self._connection.publish(self._prefix + key, _bytes(document), headers):
            case Stored(sequence):
                return sequence
            case Refused() | Busy():
                return None

    async def put_while(self, key: str, document: Any, other: str, revision: int, *, ttl_s: int | None = None) -> bool:
        """Write only while another key is at `revision`; False when it is not."""
        condition = {topo.H_EXPECTED: str(revision), topo.H_EXPECTED_SUBJECT: self._prefix + other}
        answer = await self._connection.publish(self._prefix + key, _bytes(document), condition | _ttl(ttl_s))
        return isinstance(answer, Stored)

    async def all(self, pattern: str) -> dict[str, tuple[int, Any]]:
        """Read (revision, document) of every key that matches; may lag by a moment."""
        newest = await self.newest(pattern)
        return {key: (revision, document) for key, (revision, document) in newest.items() if document is not None}

    async def newest(self, pattern: str) -> dict[str, tuple[int, Any]]:
        """Read every key that matches as `all` does, also those that were deleted: (revision of the marker, None)."""
        records = await self._connection.last_of_each(self._stream, self._prefix + pattern)
        return {record.subject.removeprefix(self._prefix): (record.sequence, _document(record)) for record in records}

    def on_write(self, pattern: str, notify: Callable[[str, Any], None]) -> AbstractAsyncContextManager[None]:
        """Call `notify(key, document)` for each attempt to write a matching key; the document is None for a deletion.

        A call may be lost, or come before the document is stored (or refused).
        """

        def notify_key(subject: str, data: bytes) -> None:
            notify(subject.removeprefix(self._prefix), _parsed(data) if data else None)

        return self._connection.listening(self._prefix + pattern, notify_key)

    @contextlib.asynccontextmanager
    async def changes(self, pattern: str) -> AsyncIterator[Changes]:
        """Subscribe to writes of the keys that match."""
        changes = Changes()
        async with self.on_write(pattern, lambda _key, _document: changes.notify()):
            yield changes

    async def delete(self, key: str) -> None:
        """Delete a key; its marker has a revision of its own."""
        await self._connection.publish(self._prefix + key, b"", {"KV-Operation": "DEL"})


def _document(record: Record) -> Any:
    if not record.data or "KV-Operation" in record.headers or "Nats-Marker-Reason" in record.headers:
        return None
    return _parsed(record.data)


def _parsed(data: bytes) -> Any:
    """Parse a document; returns bytes that are not JSON as they are, and every reader of documents refuses bytes."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def _bytes(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _ttl(ttl_s: int | None) -> dict[str, str]:
    return {} if ttl_s is None else {topo.H_TTL: str(ttl_s)}
