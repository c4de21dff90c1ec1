"""A JetStream key-value bucket: small documents, written by compare-and-set, read from the leader."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from messaging.stream import topology as topo
from messaging.stream.connection import Busy, Connection, Record, Refused, Stored


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
            heard(subject.removeprefix(self._prefix), json.loads(data) if data else None)

        return self._connection.listening(self._prefix + pattern, told)

    async def delete(self, key: str) -> None:
        """Forget a key."""
        await self._connection.publish(self._prefix + key, b"", {"KV-Operation": "DEL"})


def _document(record: Record) -> Any:
    if not record.data or "KV-Operation" in record.headers or "Nats-Marker-Reason" in record.headers:
        return None
    return json.loads(record.data)


def _bytes(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _ttl(ttl_s: int | None) -> dict[str, str]:
    return {} if ttl_s is None else {topo.H_TTL: str(ttl_s)}
