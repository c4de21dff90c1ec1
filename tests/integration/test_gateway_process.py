"""What the gateway's own assembly does, on a real port and a stream in memory."""

import asyncio
import contextlib
import time

import grpc
import pytest
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from gateway_grpc import app
from gateway_grpc.event_hints import EventHints
from messaging.runtime.config import GatewaySettings, Settings
from messaging.runtime.lifetime import Lifetime
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream.fleet import FleetView
from ops.embedded.child import free_port
from tests.integration.memory_gateway import PROVIDERS, serving
from tests.memory_stream import MemoryConnection, MemoryStream

MESSAGE = api.SendSmsRequest(recipient="+233201234567", body="Hello")
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_stop_ends_watches_at_once_however_seldom_they_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "EventHints", lambda connection: EventHints(connection, least_s=60.0))
    address = f"127.0.0.1:{free_port()}"
    settings = Settings(gateway=GatewaySettings(listen=address))
    connection = MemoryConnection(MemoryStream(settings, [one.name for one in PROVIDERS], time.time))
    view = FleetView(connection, PROVIDERS, 3.0)
    await view.refresh_backlog()
    async with contextlib.AsyncExitStack() as stack:
        life = Lifetime(asyncio.Event(), Tracer(None, ChosenIds(), 0.0), connection, stack)
        process = asyncio.create_task(app._serve(settings, life, view))
        async with grpc.aio.insecure_channel(address) as channel:
            stub = rpc.SmsGatewayServiceStub(channel)
            sent = await stub.SendSms(MESSAGE, wait_for_ready=True, timeout=10)
            watch = stub.WatchStatus(api.WatchStatusRequest(message_id=sent.message_id))
            assert isinstance(await watch.read(), api.WatchStatusResponse)
            began = time.monotonic()
            life.stopping.set()
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watch.read()
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - began < 2
        await process


_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7
_END_HEADERS = 4


def frame(kind: int, stream: int, body: bytes = b"", flags: int = 0) -> bytes:
    """Make one HTTP/2 frame."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def header(name: bytes, value: bytes) -> bytes:
    """Encode one header as a literal that no table knows."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def test_window_of_a_stream_does_not_grow_with_its_speed() -> None:
    """grpc measures the speed with a ping after data has come, and then lets the caller send megabytes ahead."""
    call = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/sms.gateway.v1.SmsGatewayService/BatchSend",
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    headers = b"".join(header(name, value) for name, value in call.items())
    chunk = api.BatchSendRequest(
        messages=[api.SendSmsRequest(recipient="12", body="x" * 1000)] * 10
    ).SerializeToString()
    data = b"\0" + len(chunk).to_bytes(4, "big") + chunk
    async with serving(GatewaySettings()) as gateway:
        reader, writer = await asyncio.open_connection(*gateway.address.split(":"))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0))
        writer.write(frame(_HEADERS, 1, headers, _END_HEADERS) + frame(_DATA, 1, data))
        seen: list[int] = []
        answers = 0
        while answers < 3:  # what grpc has to say about earlier chunks has come before the answer to a later one
            head = await asyncio.wait_for(reader.readexactly(9), 10)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            seen.append(head[3])
            if head[3] == _DATA:
                answers += 1
                writer.write(frame(_DATA, 1, data))
        writer.close()
    assert _GOAWAY not in seen
    assert _PING not in seen, "the speed is measured"
