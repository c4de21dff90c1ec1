"""BatchSend on a real grpc.aio server, with an acceptance that a test can block."""

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
from gateway_grpc.chunk import Chunk, read_chunk
from gateway_grpc.deferred_history import DeferredHistory
from gateway_grpc.drain_gate import DrainGate
from gateway_grpc.event_hints import EventHints
from gateway_grpc.interceptors import Interceptor
from gateway_grpc.limits import CallLimits
from gateway_grpc.lookup import Lookup
from gateway_grpc.service import SmsGateway
from messaging.runtime.config import GatewaySettings
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream.interface import Connection

SETTINGS = GatewaySettings(batch_read_ahead=4)
METHOD = "/sms.gateway.v1.SmsGatewayService/BatchSend"


class FakeAcceptance:
    """Accepts every message while it is open, and waits otherwise."""

    def __init__(self) -> None:
        self.closed = False
        self.open = asyncio.Event()
        self.in_progress = 0

    async def accept(self, client: str, request: api.SendSmsRequest, call: Span) -> api.SendSmsResponse:
        self.in_progress += 1
        await self.open.wait()
        self.in_progress -= 1
        return api.SendSmsResponse(recipient=request.recipient)


@pytest.fixture
def acceptance() -> FakeAcceptance:
    return FakeAcceptance()


@pytest.fixture
def settings() -> GatewaySettings:
    return SETTINGS


@pytest_asyncio.fixture(loop_scope="session")
async def channel(acceptance: FakeAcceptance, settings: GatewaySettings) -> AsyncIterator[grpc.aio.Channel]:
    tracer = Tracer(None, ChosenIds(), 1.0)
    history = DeferredHistory()
    hints = EventHints(cast("Connection", None))
    service = SmsGateway(
        cast("Acceptance", acceptance), cast("Lookup", None), history, tracer, settings, CallLimits(settings), hints
    )
    server = grpc.aio.server()
    watched: Any = Interceptor(server, tracer, DrainGate(), CallLimits(settings))
    rpc.add_SmsGatewayServiceServicer_to_server(service, watched)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as one:
        yield one
    await server.stop(None)


def chunk(number: int) -> api.BatchSendRequest:
    return api.BatchSendRequest(sequence=number, messages=[api.SendSmsRequest(recipient="+233201234567", body="x")])


async def stands_still(count: Callable[[], int]) -> int:
    """Wait until a growing number has stayed the same for a while."""
    before = -1
    while before != (before := count()):
        await asyncio.sleep(0.3)
    return before


async def test_setting_limits_the_chunks_in_progress(acceptance: FakeAcceptance, channel: grpc.aio.Channel) -> None:
    call = rpc.SmsGatewayServiceStub(channel).BatchSend(iter([chunk(n) for n in range(12)]), timeout=30)
    async with asyncio.timeout(10):
        while acceptance.in_progress < SETTINGS.batch_read_ahead:
            await asyncio.sleep(0.01)
    assert await stands_still(lambda: acceptance.in_progress) == SETTINGS.batch_read_ahead
    acceptance.open.set()
    assert [response.sequence async for response in call] == list(range(12))


@pytest.mark.parametrize("settings", [GatewaySettings(batch_read_ahead=10, chunks_at_work=8)])
async def test_a_connection_has_its_part_of_the_chunks_at_work_and_what_is_beyond_it_is_not_read(
    acceptance: FakeAcceptance, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[bytes] = []

    def counting(raw: bytes) -> Chunk:
        frames.append(raw)
        return read_chunk(raw)

    monkeypatch.setattr("gateway_grpc.batch.read_chunk", counting)
    call = rpc.SmsGatewayServiceStub(channel).BatchSend(iter([chunk(n) for n in range(12)]), timeout=30)
    assert await stands_still(lambda: acceptance.in_progress) == 2
    assert len(frames) <= 4, "two at work, and one or two that wait"
    acceptance.open.set()
    assert [response.sequence async for response in call] == list(range(12))


async def ended(call: Any) -> tuple[list[int], grpc.StatusCode, str]:
    """The answers until the end of the call, and its status."""
    answered: list[int] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        while (response := await call.read()) is not grpc.aio.EOF:
            answered.append(response.sequence)
    return answered, await call.code(), await call.details()


async def test_unreadable_chunk_ends_the_call_after_the_answers_before_it(
    acceptance: FakeAcceptance, channel: grpc.aio.Channel
) -> None:
    raw: Any = channel.stream_stream(METHOD, response_deserializer=api.BatchSendResponse.FromString)
    chunks = [
        chunk(0).SerializeToString(),
        chunk(1).SerializeToString(),
        b"\xff no message",
        chunk(3).SerializeToString(),
    ]
    call: Any = raw(iter(chunks), timeout=5)
    asyncio.get_running_loop().call_later(0.2, acceptance.open.set)
    answered, code, details = await ended(call)
    assert (answered, code) == ([0, 1], grpc.StatusCode.INVALID_ARGUMENT)
    assert "BatchSendRequest" in details


async def test_error_while_the_requests_are_read_ends_the_call(
    acceptance: FakeAcceptance, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: api.BatchSendRequest) -> None:
        if request.sequence:
            raise KeyError

    monkeypatch.setattr("gateway_grpc.chunk.check_chunk", broken)
    acceptance.open.set()
    call = rpc.SmsGatewayServiceStub(channel).BatchSend(iter([chunk(0), chunk(1)]), timeout=5)
    answered, code, _ = await ended(call)
    assert (answered, code) == ([0], grpc.StatusCode.UNKNOWN)
