"""How a gateway takes leave: of callers when it stops, and of connections that have grown old."""

import asyncio
import collections
import contextlib
import pathlib
import signal
import time
from collections.abc import AsyncIterator
from typing import cast

import grpc
import pytest
from goodbyes import Goodbyes
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rig import Rig, eventually, reasons, running
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from ops.embedded.child import Child, free_port

_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
_AT_ONCE, _REST_S = 32, 0.2


@pytest.fixture(scope="module")
async def rig(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    async with running(open_folder / "stopping", providers=("p1", "p2")) as one:
        yield one


async def another(rig: Rig, name: str, **settings: str) -> tuple[str, Child]:
    """Start one more gateway; gives its address when it serves."""
    address = f"127.0.0.1:{free_port()}"
    child = rig.system.spawn(name, "gateway_grpc", SMSGW_LISTEN=address, **settings)
    async with grpc.aio.insecure_channel(address, options=_RECONNECT) as channel:

        async def serves() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                asked = health_pb2.HealthCheckRequest()
                answer = await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=1)  # type: ignore[attr-defined]
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
            return False

        await eventually(serves)
    return address, child


class Callers:
    """So many that ask again as soon as they are answered, or some after a rest; `heard` counts what they heard."""

    def __init__(self, rig: Rig, address: str) -> None:
        self._rig = rig
        # Without a pool of their own all channels to one address would share one connection.
        options = [*_RECONNECT, ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(4)]
        self._tasks = [asyncio.create_task(self._call(n)) for n in range(_AT_ONCE)]
        self.heard: collections.Counter[str] = collections.Counter()

    async def _call(self, n: int) -> None:
        stub = rpc.SmsGatewayServiceStub(self._channels[n % len(self._channels)])
        message = api.SendSmsRequest(recipient=self._rig.number(), body="Without a rest")
        while True:
            try:
                if n % 2:
                    await stub.SendSms(message, timeout=10)
                else:
                    await stub.EstimateSms(api.EstimateSmsRequest(message=message), timeout=10)
                self.heard["OK"] += 1
            except grpc.aio.AioRpcError as error:
                self.heard[error.code().name] += 1
                if error.code() is grpc.StatusCode.UNAVAILABLE and error.trailing_metadata():
                    said = reasons(error)
                    self.heard[said["ErrorInfo"].reason] += "RetryInfo" in said
                await asyncio.sleep(_REST_S if n % 4 < 2 else 0)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()


@pytest.mark.parametrize("stop", ["first", "second"])
async def test_callers_that_hardly_rest_hear_nothing_worse_than_come_again(rig: Rig, stop: str) -> None:
    address, child = await another(rig, f"gateway-{stop}")
    callers = Callers(rig, address)
    try:

        async def answered() -> bool:
            return callers.heard["OK"] >= 300

        await eventually(answered)
        child.send(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 20)
        await asyncio.sleep(0.3)  # who was cut off has heard of it
    finally:
        await callers.end()
        rig.system.processes.pop(f"gateway-{stop}")
    assert child.exit_code == 0
    assert set(callers.heard) == {"OK", "UNAVAILABLE", "DRAINING"}, callers.heard
    assert callers.heard["DRAINING"] >= _AT_ONCE


async def test_who_only_watches_health_does_not_delay_a_stop(rig: Rig) -> None:
    address, child = await another(rig, "gateway-watched", SMSGW_DRAIN_S="15")
    async with grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        child.send(signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await asyncio.to_thread(child.wait, 20)
    rig.system.processes.pop("gateway-watched")
    assert child.exit_code == 0
    assert time.monotonic() - began < 10


async def test_a_connection_that_grows_old_is_left_for_a_new_one_and_its_calls_end(rig: Rig) -> None:
    address, _ = await another(rig, "gateway-ageing", SMSGW_CONNECTION_AGE_S="1")
    asked: asyncio.Queue[api.BatchSendRequest | None] = asyncio.Queue()

    async def chunks() -> AsyncIterator[api.BatchSendRequest]:
        while (chunk := await asked.get()) is not None:
            yield chunk

    async with Goodbyes(address) as line, grpc.aio.insecure_channel(line.address, options=_RECONNECT) as channel:
        stub = rpc.SmsGatewayServiceStub(channel)
        batch = stub.BatchSend(chunks(), timeout=60)
        await asked.put(api.BatchSendRequest(sequence=1, messages=rig.load(2)))
        first = cast(api.BatchSendResponse, await batch.read())

        async def old() -> bool:
            return bool(line.connections[0].goodbye)

        await eventually(old)
        answers = [await send_once(stub, rig) for _ in range(20)]
        await asked.put(api.BatchSendRequest(sequence=2, messages=rig.load(2)))
        last = cast(api.BatchSendResponse, await batch.read())
        assert not line.connections[0].closed
        await asked.put(None)
        assert await batch.read() is grpc.aio.EOF
        assert await batch.code() is grpc.StatusCode.OK

        async def gone() -> bool:
            return bool(line.connections[0].closed)

        await eventually(gone)
    rig.system.processes.pop("gateway-ageing").stop(signal.SIGTERM, 20)
    assert [one.sequence for one in (first, last)] == [1, 2]
    assert all(one.HasField("accepted") for answer in (first, last) for one in answer.results)
    assert len({one.message_id for one in answers}) == 20
    assert len(line.connections) >= 2


async def send_once(stub: rpc.SmsGatewayServiceStub, rig: Rig) -> api.SendSmsResponse:
    """Send one message, which is not asked again."""
    return await stub.SendSms(api.SendSmsRequest(recipient=rig.number(), body="Hello"), timeout=10)
