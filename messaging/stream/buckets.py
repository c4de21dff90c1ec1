"""A JetStream key-value bucket: small documents, written by compare-and-set, read from the leader."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from messaging.stream import topology as topo
from messaging.stream.interface import Busy, Connection, Record, Refused, Stored

STORED_S = 0.01
"""A hint is heard when a document is on its way to the bucket; this much later it stands there."""


class Hints:
    """That somebody wrote what we follow: a reason to read now instead of at the next regular time."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()

    def give(self) -> None:
        """Note that somebody wrote."""
        self._heard.set()

    async def rest(self, at_most_s: float) -> None:
        """Wait until there is something to read, or so long: a hint may be lost."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()  # before the read: what is written during it is heard anew
        await asyncio.sleep(STORED_S)


class Bucket:
    """One bucket; keys hold JSON documents. Everything raises StreamDown when the server is away."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    async def get(self, key: str) -> tuple[int, Any]:
        """Read (revision, document); the document is None, the revision that of the marker, when there is none."""
        record = await self._connection.last(self._stream, self._prefix + key)
        return (0, None) if record is None else (record.sequence, _document(record))

    async def put(self, key: str, document: Any, *, ttl_s: int | None = None) -> int:
        """Write without a condition; gives the revision."""
        answer = await self._connection.publish(self._prefix + key, _bytes(document), _ttl(ttl_s))
        return answer.sequence if isinstance(answer, Stored) else 0

    async def compare_and_set(self, key: str, document: Any, revision: int, *, ttl_s: int | None = None) -> int | None:
        """Write only if the key still stands at `revision`; the new revision, or None when someone was faster."""
        headers = {topo.H_EXPECTED: str(revision), **_ttl(ttl_s)}
        match await self._connection.publish(self._prefix + key, _bytes(document), headers):
            case Stored(sequence):
                return sequence
            case Refused() | Busy():
                return None

    async def all(self, pattern: str) -> dict[str, tuple[int, Any]]:
        """Read every key that matches as (revision, document); may lag by a moment."""
        records = await self._connection.last_of_each(self._stream, self._prefix + pattern)
        found = ((record.subject.removeprefix(self._prefix), record.sequence, _document(record)) for record in records)
        return {key: (revision, document) for key, revision, document in found if document is not None}

    def listening(self, pattern: str, heard: Callable[[str, Any], None]) -> AbstractAsyncContextManager[None]:
        """Call `heard(key, document)` when somebody writes: a hint to look, which may be lost or come too early."""

        def told(subject: str, data: bytes) -> None:
            heard(subject.removeprefix(self._prefix), _parsed(data) if data else None)

        return self._connection.listening(self._prefix + pattern, told)

    @contextlib.asynccontextmanager
    async def hints(self, pattern: str) -> AsyncIterator[Hints]:
        """Listen for what is written meanwhile."""
        hints = Hints()
        async with self.listening(pattern, lambda _key, _document: hints.give()):
            yield hints

    async def delete(self, key: str) -> None:
        """Forget a key."""
        await self._connection.publish(self._prefix + key, b"", {"KV-Operation": "DEL"})


def _document(record: Record) -> Any:
    if not record.data or "KV-Operation" in record.headers or "Nats-Marker-Reason" in record.headers:
        return None
    return _parsed(record.data)


def _parsed(data: bytes) -> Any:
    """Give the document, or the bytes themselves when they are no JSON, which no reader of documents takes."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def _bytes(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _ttl(ttl_s: int | None) -> dict[str, str]:
    return {} if ttl_s is None else {topo.H_TTL: str(ttl_s)}
