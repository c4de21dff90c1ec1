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
from gateway_grpc.gate import Gate
from gateway_grpc.interceptors import Interceptor
from gateway_grpc.late_history import LateHistory
from gateway_grpc.lookup import Lookup
from gateway_grpc.service import SmsGateway
from messaging.spans import ChosenIds, Tracer

READ_AHEAD = 4
METHOD = "/sms.gateway.v1.SmsGatewayService/BatchSend"


class Door:
    """Accepts everything, once it is open."""

    def __init__(self) -> None:
        self.draining = False
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
    history = LateHistory()
    service = SmsGateway(cast("Acceptance", door), cast("Lookup", None), history, tracer, READ_AHEAD)
    server = grpc.aio.server()
    watched: Any = Interceptor(server, tracer, Gate())
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
