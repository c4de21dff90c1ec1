"""What was refused or withdrawn is not kept until the garbage collector comes by, which it does rarely."""

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from memory_gateway import connected, serving
from sms.gateway.v1 import gateway_pb2 as api

from messaging.runtime.config import GatewaySettings

SERVICE = "/sms.gateway.v1.SmsGatewayService/"
SETTINGS = GatewaySettings()
TIMES = 30
LARGE = b"\xff" * 200_000
TOO_LARGE = b"\x7a\x00" * 1_000_000
BAD = api.SendSmsRequest(recipient="?", callback_url="h" * 200_000).SerializeToString()
NO_CHUNK = b"\xff" * 2_000_000
EMPTY = b"\x12\x00" * 1_000_000
REFUSED = api.BatchSendRequest(
    messages=[api.SendSmsRequest(recipient="?", callback_url="h" * 2000)] * 1000
).SerializeToString()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    async with serving(SETTINGS) as gateway, connected(gateway) as one:
        yield one


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


async def unary(channel: grpc.aio.Channel, raw: bytes) -> None:
    method: Any = channel.unary_unary(SERVICE + "SendSms")
    with contextlib.suppress(grpc.aio.AioRpcError):
        await method(raw, timeout=30)


async def stream(channel: grpc.aio.Channel, raw: bytes) -> None:
    method: Any = channel.stream_stream(SERVICE + "BatchSend")
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in method(iter([raw]), timeout=30):
            pass


async def left(channel: grpc.aio.Channel, raw: bytes) -> None:
    """Send a chunk and cancel the call while the chunk is at work."""
    method: Any = channel.stream_stream(SERVICE + "BatchSend")
    call = method(timeout=30)
    await call.write(raw)
    await asyncio.sleep(0.02)
    call.cancel()


@pytest.mark.parametrize(
    ("send", "raw"),
    [
        (unary, LARGE),
        (unary, TOO_LARGE),
        (unary, BAD),
        (stream, NO_CHUNK),
        (stream, EMPTY),
        (stream, REFUSED),
        (left, REFUSED),
    ],
    ids=["garbage", "too large", "bad field", "no chunk", "empty messages", "refused messages", "withdrawn"],
)
async def test_a_request_is_let_go_when_its_call_has_ended(
    channel: grpc.aio.Channel, no_collection: None, send: Callable[..., Awaitable[None]], raw: bytes
) -> None:
    await send(channel, raw)
    await asyncio.sleep(0.2)
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(TIMES):
        await send(channel, raw)
    async with asyncio.timeout(30):
        while True:
            kept = tracemalloc.get_traced_memory()[0] - before
            if kept < TIMES * len(raw) / 4:
                break
            await asyncio.sleep(0.1)
