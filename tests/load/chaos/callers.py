"""Unary and batch callers that repeat each request with the same request_id until it is answered for good."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from tests.load.chaos.ledger import Acceptance, Ledger

_CHUNK = 50
_CALL_S = 12.0
_RETRY_S = 0.2
_RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,  # a call may meet a stopping server before it has read its GOAWAY
    grpc.StatusCode.ABORTED,
}
_STREAM_BROKE = _RETRYABLE | {grpc.StatusCode.INTERNAL}
"""grpc.aio reports INTERNAL when a stream ends while its client writes."""

_RETRYABLE_NUMBERS = {code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED, code_pb2.RESOURCE_EXHAUSTED}
_PRIORITIES = (pb.PRIORITY_OTP, pb.PRIORITY_NORMAL, pb.PRIORITY_NORMAL, pb.PRIORITY_BULK, pb.PRIORITY_BULK)
_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]


class Callers:
    """Sends `count` messages that are derived from the seed, and keeps the ledger.

    While `hold` returns True the backlog is large enough and nothing is sent; `ttl_s` is each message's time to live;
    scheduled messages are due at most `ahead_s` after they were sent.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        ttl_s: float,
        gateways: Sequence[str],
        hold: Callable[[], bool],
        *,
        ahead_s: int = 10,
    ) -> None:
        self.ledger = Ledger()
        self._seed = seed
        self._count = count
        self._ttl_s = ttl_s
        self._hold = hold
        self._ahead_s = ahead_s
        self._numbers = itertools.count()
        self._channels = [grpc.aio.insecure_channel(address, options=_OPTIONS) for address in gateways]
        self._stubs = [rpc.SmsGatewayServiceStub(channel) for channel in self._channels]
        self._turn = itertools.cycle(self._stubs)

    async def run(self, unary: int = 12, batch: int = 2) -> None:
        """Send everything; return when every request has a final answer."""
        async with asyncio.TaskGroup() as group:
            for n in range(unary):
                group.create_task(self._unary(), name=f"unary-{n}")
            for n in range(batch):
                group.create_task(self._batch(), name=f"batch-{n}")

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close()

    def request(self, n: int) -> api.SendSmsRequest:
        """Make the n-th request; it is the same each time."""
        rng = random.Random(f"{self._seed} {n}")
        request = api.SendSmsRequest(
            recipient=f"+23320{n % 10_000_000:07d}",
            body=f"Chaos {n}",
            request_id=f"chaos-{self._seed}-{n}",
            priority=rng.choice(_PRIORITIES),
            ttl=Duration(seconds=int(self._ttl_s)),
        )
        if rng.random() < 0.03:
            at = Timestamp()
            at.FromNanoseconds(time.time_ns() + rng.randrange(3, self._ahead_s) * 1_000_000_000)
            request.schedule_time.CopyFrom(at)
        return request

    def _next(self, count: int) -> list[api.SendSmsRequest]:
        numbers = [n for n in itertools.islice(self._numbers, count) if n < self._count]
        return [self.request(n) for n in numbers]

    async def _wait_for_room(self) -> None:
        while self._hold():
            await asyncio.sleep(0.1)

    async def _unary(self) -> None:
        while True:
            await self._wait_for_room()
            wanted = self._next(1)
            if not wanted:
                return
            await self._send(wanted[0])
            if wanted[0].request_id.endswith("7"):  # a caller that repeats an answered request
                self.ledger.repeats += 1
                await self._send(wanted[0])

    async def _send(self, request: api.SendSmsRequest) -> None:
        asked_at = time.time()
        while True:
            try:
                answer = await next(self._turn).SendSms(request, timeout=_CALL_S)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _RETRYABLE:
                    self.ledger.refused[request.request_id] = str(error.code())
                    return
                self.ledger.failed(error.code().name)
                await asyncio.sleep(_RETRY_S)
                continue
            self._accepted(request, answer, asked_at)
            return

    async def _batch(self) -> None:
        """Keep one stream open; when it breaks, send again the requests without an answer."""
        waiting: list[api.SendSmsRequest] = []
        while True:
            await self._wait_for_room()
            waiting += self._next(4 * _CHUNK - len(waiting))
            if not waiting:
                return
            chunks = [waiting[first : first + _CHUNK] for first in range(0, len(waiting), _CHUNK)]
            answered: set[str] = set()
            try:
                await self._stream(chunks, answered)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _STREAM_BROKE:
                    raise
                self.ledger.failed(error.code().name)
            waiting = [one for one in waiting if one.request_id not in answered]
            if waiting:
                await asyncio.sleep(_RETRY_S)

    async def _stream(self, chunks: list[list[api.SendSmsRequest]], answered: set[str]) -> None:
        asked_at = time.time()
        requests = (api.BatchSendRequest(sequence=n, messages=chunk) for n, chunk in enumerate(chunks))
        async for response in next(self._turn).BatchSend(requests, timeout=2 * _CALL_S):
            for request, result in zip(chunks[response.sequence], response.results, strict=True):
                if result.HasField("accepted"):
                    self._accepted(request, result.accepted, asked_at)
                    answered.add(request.request_id)
                elif result.error.code in _RETRYABLE_NUMBERS:
                    self.ledger.failed(code_pb2.Code.Name(result.error.code))
                else:
                    self.ledger.refused[request.request_id] = code_pb2.Code.Name(result.error.code)
                    answered.add(request.request_id)

    def _accepted(self, request: api.SendSmsRequest, answer: api.SendSmsResponse, asked_at: float) -> None:
        deadline = answer.deadline.ToNanoseconds() / 1e9
        self.ledger.accept(Acceptance(request.request_id, answer.message_id, asked_at, time.time(), deadline))
