"""Sends the rows of a file over BatchSend until each has an answer, even when streams break.

At most a few chunks are in flight, and no other part of the file is in memory. A chunk without an answer, and a row
that was refused only for now, is sent again before new rows are read; the request_id makes that safe. A row without a
request_id is never sent again when its outcome is unclear.
"""

import asyncio
import contextlib
import itertools
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import attrs
import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from messaging.runtime.backoff import Backoff
from ops.bulk.row import BadRow, Row
from ops.commands.failure import UNAVAILABLE, Failure
from ops.commands.gateway_client import Refusal, no_gateway_at, refusal_in, refusal_of

_Call: TypeAlias = "grpc.aio.StreamStreamCall[api.BatchSendRequest, api.BatchSendResponse]"

TOO_LARGE = Refusal("TOO_LARGE", "the gateway takes no message of this size: shorten its labels or its text")
UNCLEAR = Refusal("UNCLEAR", "it may have been accepted; it has no request_id, so it is not sent again")

_IN_FLIGHT = 6
_CHUNK_BYTES = 3 * 1024 * 1024
"""Larger chunks are divided: gRPC servers take no more than 4 MiB unless they are told to."""
_FRAME_BYTES = 8
_FIRST_CONNECT_S = 5.0
_REFUSED_PAUSE_S = 1.0
_BROKEN = Backoff(first_s=0.2, longest_s=3.0)
_RESUMABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED})
_FOR_NOW = frozenset({grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]})
_TOO_LARGE = re.compile("larger than max|exceeds (the )?maximum size|message too large", re.IGNORECASE)
"""How gRPC libraries say that a message is too large; the code alone also means that the gateway is busy."""
_CERTAINLY_NOT_ACCEPTED = frozenset({"BACKLOG_FULL", "STREAM_FULL", "DRAINING"})


@attrs.frozen
class Chunk:
    """Rows that are sent in one request."""

    sequence: int
    rows: Sequence[Row]


@attrs.frozen
class Callbacks:
    """Called for every outcome of a row, and when a stream broke (why, and the seconds until the next one)."""

    accepted: Callable[[Row, api.SendSmsResponse], None]
    refused: Callable[[Row, Refusal], None]
    bad: Callable[[BadRow], None]
    broken: Callable[[str, float], None]


class Transmission:
    """Sends one file; `address` is that of the stub, for error sentences.

    It gives up when no row got its outcome for `patience_s`.
    """

    def __init__(
        self,
        stub: rpc.SmsGatewayServiceStub,
        rows: Iterator[Row | BadRow],
        callbacks: Callbacks,
        address: str,
        *,
        chunk: int,
        patience_s: float,
    ) -> None:
        self._stub = stub
        self._rows = rows
        self._callbacks = callbacks
        self._address = address
        self._size = chunk
        self._max_bytes = _CHUNK_BYTES
        self._patience_s = patience_s
        self._sequence = itertools.count(1)
        self._again: deque[Sequence[Row]] = deque()
        self._unanswered: deque[Chunk] = deque()
        self._reading: asyncio.Task[list[Row | BadRow]] | None = None
        self._exhausted = False
        self._answered = asyncio.Event()
        self._not_before = 0.0
        self._settled_at = time.monotonic()
        self._has_connected = False

    async def run(self) -> None:
        """Send everything; raises Failure when it gives up, and AioRpcError when trying again cannot help."""
        pauses = _BROKEN.pauses()
        next(pauses)  # the shortest one is for a stream that has settled something
        while True:
            before = self._settled_at
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                refusal = refusal_in(error)
                if _is_too_large(error, refusal):
                    self._divide()
                    continue
                if not _is_broken_stream(error, refusal):
                    raise
                why = refusal.reason if refusal else error.code().name
                asked = refusal.retry_s if refusal else None
            else:
                if self._done():
                    return
                why, asked = "it ended early", None
            if self._settled_at > before:
                pauses = _BROKEN.pauses()
            pause = next(pauses)
            self._reclaim()
            self._check_patience()
            self._callbacks.broken(why, asked or pause)
            await asyncio.sleep(asked or pause)

    def _done(self) -> bool:
        return self._exhausted and not self._again and not self._unanswered

    def _check_patience(self) -> None:
        patience = self._patience_s if self._has_connected else min(self._patience_s, _FIRST_CONNECT_S)
        if time.monotonic() - self._settled_at > patience:
            if not self._has_connected:
                raise no_gateway_at(self._address)
            cure = "run the same command again; accepted messages are not sent twice"
            raise Failure(f"the gateway at {self._address} accepts nothing any more: {cure}", UNAVAILABLE)

    def _reclaim(self) -> None:
        """Queue the chunks that got no answer to be sent again, in their order."""
        for chunk in reversed(self._unanswered):
            for row in chunk.rows:
                if not row.request.request_id:
                    self._callbacks.refused(row, UNCLEAR)
            if safe := [row for row in chunk.rows if row.request.request_id]:
                self._again.appendleft(safe)
        self._unanswered.clear()

    def _divide(self) -> None:
        """Queue what has no answer in smaller chunks; refuse a row that is alone in its chunk and still too large."""
        self._has_connected = True
        largest = max(self._unanswered, key=lambda chunk: _size_of(chunk.rows), default=None)
        if largest is None:
            raise Failure(f"the gateway at {self._address} takes no message of any size", UNAVAILABLE)
        self._unanswered.remove(largest)
        self._reclaim()
        if len(largest.rows) == 1:
            self._callbacks.refused(largest.rows[0], TOO_LARGE)
        else:
            self._max_bytes = _size_of(largest.rows) // 2
            self._again.appendleft(largest.rows)  # whichever chunk it was: this one was not read either
        self._settled_at = time.monotonic()
        self._callbacks.broken("a chunk is too large for the gateway; smaller ones follow", 0.0)

    def _pieces(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Divide rows into chunks that are not too large; a row that is too large is alone."""
        piece, size = list[Row](), 0
        for row in rows:
            row_bytes = _size_of([row])
            if piece and size + row_bytes > self._max_bytes:
                yield piece
                piece, size = [], 0
            piece.append(row)
            size += row_bytes
        if piece:
            yield piece

    async def _stream(self) -> None:
        """Send over one stream until everything is done or it breaks."""
        call = self._stub.BatchSend()
        slots = asyncio.Semaphore(_IN_FLIGHT)
        writer = asyncio.create_task(self._write(call, slots), name="batch-writer")
        reader = asyncio.create_task(self._read(call, slots), name="batch-reader")
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
            if writer.done() and writer.exception() is None:
                await asyncio.wait({reader})
        finally:
            for task in (writer, reader):
                task.cancel()
            call.cancel()
            await asyncio.wait({writer, reader})
        errors = [None if task.cancelled() else task.exception() for task in (writer, reader)]
        for error in filter(None, errors):
            raise error

    async def _read(self, call: _Call, slots: asyncio.Semaphore) -> None:
        while isinstance(response := await call.read(), api.BatchSendResponse):
            self._settle(response)
            slots.release()

    async def _write(self, call: _Call, slots: asyncio.Semaphore) -> None:
        """Send until nothing is left. When the stream breaks, `_read` gets the error, and this ends quietly."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.wait_for_connection()
            self._has_connected = True
            while True:
                await slots.acquire()
                rows = await self._next()
                if rows is None:
                    break
                chunk = Chunk(next(self._sequence), rows)
                self._unanswered.append(chunk)
                messages = [row.request for row in rows]
                await call.write(api.BatchSendRequest(sequence=chunk.sequence, messages=messages))
            await call.done_writing()

    async def _next(self) -> Sequence[Row] | None:
        """Return the rows to send next; None when every row has its answer."""
        while True:
            if self._again:
                await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
                self._check_patience()
                first, *rest = self._pieces(self._again.popleft())
                self._again.extendleft(reversed(rest))
                return first
            if not self._exhausted:
                if rows := await self._read_file():
                    self._again.append(rows)
                continue
            if not self._unanswered:
                return None
            self._answered.clear()
            await self._answered.wait()

    async def _read_file(self) -> list[Row]:
        """Read a chunk of rows in a thread; if the stream breaks meanwhile, they are sent on the next one."""
        if self._reading is None:
            read = asyncio.to_thread(lambda: list(itertools.islice(self._rows, self._size)))
            self._reading = asyncio.create_task(read, name="batch-file")
        found = await asyncio.shield(self._reading)
        self._reading = None
        self._exhausted = not found
        if not self._unanswered:
            self._settled_at = time.monotonic()  # a slow file is not the gateway's fault
        for row in found:
            if isinstance(row, BadRow):
                self._callbacks.bad(row)
        return [row for row in found if isinstance(row, Row)]

    def _settle(self, response: api.BatchSendResponse) -> None:
        chunk = self._unanswered.popleft() if self._unanswered else None
        if chunk is None or response.sequence != chunk.sequence or len(response.results) != len(chunk.rows):
            raise Failure("the gateway's answer does not match a chunk that was sent: does it run another version?")
        later = []
        for row, result in zip(chunk.rows, response.results, strict=True):
            if result.HasField("accepted"):
                self._callbacks.accepted(row, result.accepted)
                continue
            refusal = refusal_of(result.error)
            if result.error.code not in _FOR_NOW:
                self._callbacks.refused(row, refusal)
            elif row.request.request_id or refusal.reason in _CERTAINLY_NOT_ACCEPTED:
                later.append(row)
                wait = _REFUSED_PAUSE_S if refusal.retry_s is None else refusal.retry_s
                self._not_before = max(self._not_before, time.monotonic() + wait)
            else:
                self._callbacks.refused(row, UNCLEAR)
        if later:
            self._again.append(later)
        if len(later) < len(chunk.rows):
            self._settled_at = time.monotonic()
        self._answered.set()


def _size_of(rows: Sequence[Row]) -> int:
    return sum(row.request.ByteSize() + _FRAME_BYTES for row in rows)


def _is_too_large(error: grpc.aio.AioRpcError, refusal: Refusal | None) -> bool:
    """Whether the gateway, or a library between here and there, refused a chunk for its size."""
    if refusal is not None and refusal.reason == "REQUEST_TOO_LARGE":
        return True
    exhausted = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and refusal is None
    return exhausted and _TOO_LARGE.search(error.details() or "") is not None


def _is_broken_stream(error: grpc.aio.AioRpcError, refusal: Refusal | None) -> bool:
    """Whether a new stream may help. grpc itself reports INTERNAL when it writes to a stream that has ended."""
    return error.code() in _RESUMABLE or (refusal is None and error.code() is grpc.StatusCode.INTERNAL)
