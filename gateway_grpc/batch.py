"""BatchSend: reads chunks, accepts their messages concurrently, and answers in order.

Every piece of work, which is a message or the frame of a chunk, waits for its turn: see `gateway_grpc.turns`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Hashable
from typing import cast

from opentelemetry.trace import Link, SpanKind
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.chunk import Chunk, read_chunk, read_message
from gateway_grpc.errors import grpc_status_of, without_fields
from gateway_grpc.interceptors import current_call
from gateway_grpc.limits import CallLimits
from gateway_grpc.turns import Turns, Workload
from messaging.errors import CallTooLong, Draining, GatewayError, RequestTooLarge
from messaging.runtime import telemetry
from messaging.runtime.config import GatewaySettings
from messaging.runtime.spans import Tracer

_CHUNK_CONCURRENCY = 64  # times the chunks that are read ahead, it is as many messages as publishes may be in flight
_EACH_CYCLE, _BESIDE_CALLS = 64, 8  # messages that begin in one cycle of the event loop, each up to 0.1 ms of CPU
_MAX_ERROR_BYTES = 524_288
"""Errors of one chunk's answer beyond this list no fields: many clients refuse an answer of more than 4 MiB."""


class Batches:
    """All BatchSend calls of one gateway process."""

    def __init__(self, acceptance: Acceptance, tracer: Tracer, settings: GatewaySettings, limits: CallLimits) -> None:
        self._acceptance = acceptance
        self._tracer = tracer
        self._settings = settings
        # A quarter of the publishes is left to single calls.
        self._turns = Turns(
            max(1, settings.publish_in_flight * 3 // 4),
            lambda: _BESIDE_CALLS if limits.unary.taken else _EACH_CYCLE,
        )
        self._workload = Workload(settings.chunks_at_work, settings.chunk_bytes_at_work)

    async def serve(self, requests: AsyncIterator[bytes], connection: Hashable) -> AsyncIterator[bytes]:
        """Answer one stream, in bytes: `batch_read_ahead` chunks at once, each until its answer is sent."""
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(self._settings.batch_read_ahead)
        chunks: set[asyncio.Task[bytes]] = set()

        async def read() -> None:
            try:
                # grpc keeps its iterator in a cycle, with the last chunk, unless it is closed.
                async with (
                    contextlib.aclosing(cast("AsyncGenerator[bytes, None]", aiter(requests))) as sent,
                    contextlib.aclosing(self._received(sent, connection, room)) as received,
                ):
                    async for raw in received:
                        async with self._turns.turn(connection):
                            chunk = read_chunk(raw)
                        task = asyncio.create_task(self._chunk(chunk, len(raw), connection), name="chunk")
                        del raw, chunk  # what waits for the next chunk holds this one no longer
                        chunks.add(task)
                        answers.put_nowait(task)
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read(), name="batch-reader")
        try:
            while (answer := await answers.get()) is not None:
                chunks.discard(answer)
                yield await answer
                room.release()
            await reader  # raises its exception, if any
        finally:
            for task in (reader, *chunks):
                task.cancel()

    async def _received(
        self, requests: AsyncIterator[bytes], connection: Hashable, room: asyncio.Semaphore
    ) -> AsyncGenerator[bytes, None]:
        """Read one chunk after the other, each once there is room for it; raises Draining, CallTooLong."""
        idle_s, longest_s = self._settings.stream_idle_s, self._settings.stream_s
        end = time.monotonic() + longest_s
        while True:
            await room.acquire()
            await self._workload.room(connection)
            if (left_s := end - time.monotonic()) <= 0:
                raise CallTooLong("open", longest_s)
            try:
                async with asyncio.timeout(min(idle_s, left_s)):
                    raw = await anext(requests)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise (CallTooLong("idle", idle_s) if idle_s < left_s else CallTooLong("open", longest_s)) from None
            if self._acceptance.closed:
                raise Draining
            if len(raw) > self._settings.chunk_max_bytes:
                raise RequestTooLarge("request", len(raw), self._settings.chunk_max_bytes, "send smaller chunks")
            yield raw
            del raw

    async def _chunk(self, chunk: Chunk, size_bytes: int, connection: Hashable) -> bytes:
        """Accept the messages of a chunk concurrently: each of a few tasks takes the next message."""
        results: dict[int, api.BatchSendResult] = {}
        count, waiting = len(chunk.messages), iter(enumerate(chunk.messages))
        links = (Link(current_call().span.get_span_context()),)
        error_bytes = 0

        async def take() -> None:
            nonlocal error_bytes
            for index, message in waiting:
                await self._turns.begin(connection)
                try:
                    result = await self._one(message, links)
                finally:
                    self._turns.end()
                if result.HasField("error"):
                    if error_bytes > _MAX_ERROR_BYTES:
                        result = api.BatchSendResult(error=without_fields(result.error))
                    error_bytes += result.ByteSize()
                results[index] = result

        try:
            async with self._workload.hold(connection, size_bytes):
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(_CHUNK_CONCURRENCY, count)):
                        group.create_task(take(), name="accept")
                async with self._turns.turn(connection):
                    in_order = [results[index] for index in range(count)]
                    response = api.BatchSendResponse(sequence=chunk.sequence, results=in_order)
                    return response.SerializeToString()
        finally:
            chunk.messages.clear()  # a cancelled task may be kept by a cycle for long

    async def _one(self, raw: bytes, links: tuple[Link, ...]) -> api.BatchSendResult:
        """Accept one message of a chunk, in its own trace, which is linked to that of the call."""
        try:
            with telemetry.span(self._tracer, "accept", None, SpanKind.SERVER, links) as span:
                message = read_message(raw)
                return api.BatchSendResult(accepted=await self._acceptance.accept(current_call().client, message, span))
        except GatewayError as error:
            return api.BatchSendResult(error=grpc_status_of(error))
