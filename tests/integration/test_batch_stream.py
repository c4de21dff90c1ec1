"""BatchSend on a real grpc.aio server, before an acceptance that a test opens and shuts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from opentelemetry.trace import Span
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.deferred_history import DeferredHistory
from gateway_grpc.drain_gate import DrainGate
from gateway_grpc.interceptors import Interceptor
from gateway_grpc.lookup import Lookup
from gateway_grpc.service import SmsGateway
from messaging.runtime.spans import ChosenIds, Tracer

READ_AHEAD = 4
METHOD = "/sms.gateway.v1.SmsGatewayService/BatchSend"


class Door:
    """Accepts everything, once it is open."""

    def __init__(self) -> None:
        self.closed = False
        self.open = asyncio.Event()
        self.under_way = 0

    async def accept(self, client: str, request: api.SendSmsRequest, call: Span) -> api.SendSmsResponse:
        self.under_way += 1
        await self.open.wait()
        self.under_way -= 1
        return api.SendSmsResponse(recipient=request.recipient)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest_asyncio.fixture(loop_scope="session")
async def channel(door: Door) -> AsyncIterator[grpc.aio.Channel]:
    tracer = Tracer(None, ChosenIds(), 1.0)
    history = DeferredHistory()
    service = SmsGateway(cast("Acceptance", door), cast("Lookup", None), history, tracer, READ_AHEAD)
    server = grpc.aio.server()
    watched: Any = Interceptor(server, tracer, DrainGate())
    rpc.add_SmsGatewayServiceServicer_to_server(service, watched)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as one:
        yield one
    await server.stop(None)


def chunk(number: int) -> api.BatchSendRequest:
    return api.BatchSendRequest(sequence=number, messages=[api.SendSmsRequest(recipient="+233201234567", body="x")])


async def stands_still(count: Callable[[], int]) -> int:
    """Wait until something that grows has not done so for a while."""
    before = -1
    while before != (before := count()):
        await asyncio.sleep(0.3)
    return before


async def test_as_many_chunks_are_worked_on_at_once_as_the_setting_says(door: Door, channel: grpc.aio.Channel) -> None:
    call = rpc.SmsGatewayServiceStub(channel).BatchSend(iter([chunk(n) for n in range(12)]), timeout=30)
    async with asyncio.timeout(10):
        while door.under_way < READ_AHEAD:
            await asyncio.sleep(0.01)
    assert await stands_still(lambda: door.under_way) == READ_AHEAD
    door.open.set()
    assert [response.sequence async for response in call] == list(range(12))


async def ended(call: Any) -> tuple[list[int], grpc.StatusCode, str]:
    """What was answered until the call ended, and how it did."""
    answered: list[int] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        while (response := await call.read()) is not grpc.aio.EOF:
            answered.append(response.sequence)
    return answered, await call.code(), await call.details()


async def test_an_unreadable_chunk_ends_the_call_after_the_answers_before_it(
    door: Door, channel: grpc.aio.Channel
) -> None:
    raw: Any = channel.stream_stream(METHOD, response_deserializer=api.BatchSendResponse.FromString)
    chunks = [
        chunk(0).SerializeToString(),
        chunk(1).SerializeToString(),
        b"\xff no message",
        chunk(3).SerializeToString(),
    ]
    call: Any = raw(iter(chunks), timeout=5)
    asyncio.get_running_loop().call_later(0.2, door.open.set)
    answered, code, details = await ended(call)
    assert (answered, code) == ([0, 1], grpc.StatusCode.INVALID_ARGUMENT)
    assert "BatchSendRequest" in details


async def test_whatever_else_ends_the_reading_ends_the_call(
    door: Door, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: api.BatchSendRequest) -> None:
        if request.sequence:
            raise KeyError

    monkeypatch.setattr("gateway_grpc.validation.check_chunk", broken)
    door.open.set()
    call = rpc.SmsGatewayServiceStub(channel).BatchSend(iter([chunk(0), chunk(1)]), timeout=5)
    answered, code, _ = await ended(call)
    assert (answered, code) == ([0], grpc.StatusCode.UNKNOWN)
