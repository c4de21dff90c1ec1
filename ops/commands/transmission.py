"""Sends the rows of a file over BatchSend until each has its answer, across streams that break.

What is in flight is bounded by chunks; nothing else of the file is held. A chunk that got no answer, and a row that was
refused only for now, is sent again before anything new is read: its request_id makes that safe. A row without one is
never sent again when its outcome is unclear.
"""

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import attrs
import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from messaging.runtime.backoff import Backoff
from ops.commands.bulk_file import BadRow, Row
from ops.commands.failure import UNAVAILABLE, Failure
from ops.commands.gateway_client import Refusal, nobody_at, refusal_in, refusal_of

_Call: TypeAlias = "grpc.aio.StreamStreamCall[api.BatchSendRequest, api.BatchSendResponse]"

UNCLEAR = Refusal("UNCLEAR", "nobody knows whether it was accepted: it has no request_id, so it is not sent again")

_IN_FLIGHT = 6
_FIRST_MEETING_S = 5.0
_REFUSED_PAUSE_S = 1.0
_BROKEN = Backoff(first_s=0.2, longest_s=3.0)
_RESUMABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED})
_FOR_NOW = frozenset({grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]})
_SURELY_NOT_ACCEPTED = frozenset({"BACKLOG_FULL", "STREAM_FULL", "DRAINING"})


@attrs.frozen
class Chunk:
    """Rows that travel together."""

    sequence: int
    rows: Sequence[Row]


@attrs.frozen
class Report:
    """Who is told what became of the rows, and that a stream broke (with the seconds until the next one)."""

    accepted: Callable[[Row, api.SendSmsResponse], None]
    refused: Callable[[Row, Refusal], None]
    bad: Callable[[BadRow], None]
    broken: Callable[[str, float], None]


class Transmission:
    """One file on its way; `address` is where the stub leads.

    `patience_s` bounds how long it goes on without any row being settled.
    """

    def __init__(
        self,
        stub: rpc.SmsGatewayServiceStub,
        rows: Iterator[Row | BadRow],
        report: Report,
        address: str,
        *,
        chunk: int,
        patience_s: float,
    ) -> None:
        self._stub = stub
        self._rows = rows
        self._report = report
        self._address = address
        self._size = chunk
        self._patience_s = patience_s
        self._sequence = itertools.count(1)
        self._again: deque[Sequence[Row]] = deque()
        self._unanswered: deque[Chunk] = deque()
        self._taking: asyncio.Task[list[Row | BadRow]] | None = None
        self._exhausted = False
        self._answered = asyncio.Event()
        self._not_before = 0.0
        self._settled_at = time.monotonic()
        self._met = False

    async def run(self) -> None:
        """Send everything; raises Failure when patience ends, AioRpcError for what trying again does not mend."""
        pauses = _BROKEN.pauses()
        next(pauses)  # the shortest one is for a stream that has settled something
        while True:
            before = self._settled_at
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                refusal = refusal_in(error)
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
            self._report.broken(why, asked or pause)
            await asyncio.sleep(asked or pause)

    def _done(self) -> bool:
        return self._exhausted and not self._again and not self._unanswered

    def _check_patience(self) -> None:
        patience = self._patience_s if self._met else min(self._patience_s, _FIRST_MEETING_S)
        if time.monotonic() - self._settled_at > patience:
            if not self._met:
                raise nobody_at(self._address)
            cure = "run the same command again, and what was accepted is not sent twice"
            raise Failure(f"the gateway at {self._address} takes nothing any more: {cure}", UNAVAILABLE)

    def _reclaim(self) -> None:
        """Take back the chunks that got no answer, in their order."""
        for chunk in reversed(self._unanswered):
            for row in chunk.rows:
                if not row.request.request_id:
                    self._report.refused(row, UNCLEAR)
            if safe := [row for row in chunk.rows if row.request.request_id]:
                self._again.appendleft(safe)
        self._unanswered.clear()

    async def _stream(self) -> None:
        """Send over one stream until all is done or it breaks."""
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
        """Send until nothing is left; a stream that ends meanwhile says how to whoever reads it."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.wait_for_connection()
            self._met = True
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
        """Give what is to be sent next; None when every row has its answer."""
        while True:
            if self._again:
                await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
                self._check_patience()
                return self._again.popleft()
            if not self._exhausted:
                if rows := await self._take():
                    return rows
                continue
            if not self._unanswered:
                return None
            self._answered.clear()
            await self._answered.wait()

    async def _take(self) -> list[Row]:
        """Read a chunk of rows in a thread; when the stream breaks meanwhile, the next one gets them."""
        if self._taking is None:
            read = asyncio.to_thread(lambda: list(itertools.islice(self._rows, self._size)))
            self._taking = asyncio.create_task(read, name="batch-file")
        found = await asyncio.shield(self._taking)
        self._taking = None
        self._exhausted = not found
        if not self._unanswered:
            self._settled_at = time.monotonic()  # a file that comes slowly says nothing of the gateway
        for row in found:
            if isinstance(row, BadRow):
                self._report.bad(row)
        return [row for row in found if isinstance(row, Row)]

    def _settle(self, response: api.BatchSendResponse) -> None:
        chunk = self._unanswered.popleft() if self._unanswered else None
        if chunk is None or response.sequence != chunk.sequence or len(response.results) != len(chunk.rows):
            raise Failure("the gateway's answer belongs to no chunk that was sent: is it a gateway of another version?")
        later = []
        for row, result in zip(chunk.rows, response.results, strict=True):
            if result.HasField("accepted"):
                self._report.accepted(row, result.accepted)
                continue
            refusal = refusal_of(result.error)
            if result.error.code not in _FOR_NOW:
                self._report.refused(row, refusal)
            elif row.request.request_id or refusal.reason in _SURELY_NOT_ACCEPTED:
                later.append(row)
                wait = _REFUSED_PAUSE_S if refusal.retry_s is None else refusal.retry_s
                self._not_before = max(self._not_before, time.monotonic() + wait)
            else:
                self._report.refused(row, UNCLEAR)
        if later:
            self._again.append(later)
        if len(later) < len(chunk.rows):
            self._settled_at = time.monotonic()
        self._answered.set()


def _is_broken_stream(error: grpc.aio.AioRpcError, refusal: Refusal | None) -> bool:
    """Whether another stream may do better. grpc says INTERNAL by itself when it writes to a stream that has ended."""
    return error.code() in _RESUMABLE or (refusal is None and error.code() is grpc.StatusCode.INTERNAL)
