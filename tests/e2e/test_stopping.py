"""How a gateway ends calls when it stops, and connections that have reached their age limit."""

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
from goaway_proxy import GoawayProxy
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rig import Rig, eventually, reasons, running
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from ops.embedded.child import Child, free_port
from tests.machine import Machine

_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
_CALLERS, _PAUSE_S = 32, 0.2


@pytest.fixture(scope="module")
async def rig(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    async with running(open_folder / "stopping", providers=("p1", "p2")) as one:
        yield one


async def another(rig: Rig, name: str, **settings: str) -> tuple[str, Child]:
    """Start one more gateway; return its address when it serves."""
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
    """Callers that call again at once, some of them after a pause; `answers` counts status codes and reasons."""

    def __init__(self, rig: Rig, address: str) -> None:
        self._rig = rig
        # Without a local pool all channels to one address would share one connection.
        options = [*_RECONNECT, ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(4)]
        self._tasks = [asyncio.create_task(self._call(n)) for n in range(_CALLERS)]
        self.answers: collections.Counter[str] = collections.Counter()

    async def _call(self, n: int) -> None:
        stub = rpc.SmsGatewayServiceStub(self._channels[n % len(self._channels)])
        message = api.SendSmsRequest(recipient=self._rig.number(), body="Again")
        while True:
            try:
                if n % 2:
                    await stub.SendSms(message, timeout=10)
                else:
                    await stub.EstimateSms(api.EstimateSmsRequest(message=message), timeout=10)
                self.answers["OK"] += 1
            except grpc.aio.AioRpcError as error:
                self.answers[error.code().name] += 1
                if error.code() is grpc.StatusCode.UNAVAILABLE and error.trailing_metadata():
                    details = reasons(error)
                    self.answers[details["ErrorInfo"].reason] += "RetryInfo" in details
                await asyncio.sleep(_PAUSE_S if n % 4 < 2 else 0)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()


@pytest.mark.parametrize("stop", ["first", "second"])
async def test_busy_callers_of_a_stopping_gateway_get_only_retryable_errors(rig: Rig, stop: str) -> None:
    address, child = await another(rig, f"gateway-{stop}")
    callers = Callers(rig, address)
    try:

        async def answered() -> bool:
            return callers.answers["OK"] >= 300

        await eventually(answered)
        child.send(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 20)
        await asyncio.sleep(0.3)  # every cut call has its error by now
    finally:
        await callers.end()
        rig.system.processes.pop(f"gateway-{stop}")
    assert child.exit_code == 0
    assert set(callers.answers) == {"OK", "UNAVAILABLE", "DRAINING"}, callers.answers
    assert callers.answers["DRAINING"] >= _CALLERS


async def test_health_watch_does_not_delay_a_stop(rig: Rig, machine: Machine) -> None:
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
    machine.reaches(time.monotonic() - began, below=10)


async def test_old_connection_is_replaced_by_a_new_one_and_its_calls_end_normally(rig: Rig) -> None:
    address, _ = await another(rig, "gateway-ageing", SMSGW_CONNECTION_AGE_S="1")
    asked: asyncio.Queue[api.BatchSendRequest | None] = asyncio.Queue()

    async def chunks() -> AsyncIterator[api.BatchSendRequest]:
        while (chunk := await asked.get()) is not None:
            yield chunk

    async with GoawayProxy(address) as proxy, grpc.aio.insecure_channel(proxy.address, options=_RECONNECT) as channel:
        stub = rpc.SmsGatewayServiceStub(channel)
        batch = stub.BatchSend(chunks(), timeout=60)
        await asked.put(api.BatchSendRequest(sequence=1, messages=rig.load(2)))
        first = cast(api.BatchSendResponse, await batch.read())

        async def old() -> bool:
            return bool(proxy.connections[0].goaway)

        await eventually(old)
        answers = [await send_once(stub, rig) for _ in range(20)]
        await asked.put(api.BatchSendRequest(sequence=2, messages=rig.load(2)))
        last = cast(api.BatchSendResponse, await batch.read())
        assert not proxy.connections[0].closed
        await asked.put(None)
        assert await batch.read() is grpc.aio.EOF
        assert await batch.code() is grpc.StatusCode.OK

        async def gone() -> bool:
            return bool(proxy.connections[0].closed)

        await eventually(gone)
    rig.system.processes.pop("gateway-ageing").stop(signal.SIGTERM, 20)
    assert [one.sequence for one in (first, last)] == [1, 2]
    assert all(one.HasField("accepted") for answer in (first, last) for one in answer.results)
    assert len({one.message_id for one in answers}) == 20
    assert len(proxy.connections) >= 2


async def send_once(stub: rpc.SmsGatewayServiceStub, rig: Rig) -> api.SendSmsResponse:
    """Send one message without a retry."""
    return await stub.SendSms(api.SendSmsRequest(recipient=rig.number(), body="Hello"), timeout=10)
