"""Limits on calls, streams and connections, on a real port: what is beyond them is refused, and callers try again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import attrs
import grpc
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from memory_gateway import MemoryGateway, connected, serving
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from messaging.runtime.config import GatewaySettings
from tests.machine import Machine

SMS = api.SendSmsRequest(recipient="+233201234567", body="hello")
SETTINGS = GatewaySettings()


def refusal(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, bool]:
    """The code, the reason, and whether it says when to try again."""
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode())
    info, retry = details.ErrorInfo(), details.RetryInfo()
    found = [detail.Unpack(retry) for detail in status.details if detail.Is(details.RetryInfo.DESCRIPTOR)]
    for detail in status.details:
        detail.Unpack(info)
    return error.code(), info.reason, found == [True] and retry.retry_delay.ToTimedelta().total_seconds() > 0


BUSY = (grpc.StatusCode.UNAVAILABLE, "GATEWAY_BUSY", True)
TOO_LONG = (grpc.StatusCode.UNAVAILABLE, "CALL_TOO_LONG", True)


@contextlib.asynccontextmanager
async def gateway_with(**settings: Any) -> AsyncIterator[tuple[MemoryGateway, rpc.SmsGatewayServiceStub]]:
    async with serving(attrs.evolve(SETTINGS, **settings)) as gateway, connected(gateway) as channel:
        yield gateway, rpc.SmsGatewayServiceStub(channel)


async def a_scheduled_message(stub: rpc.SmsGatewayServiceStub) -> str:
    request = api.SendSmsRequest(recipient="+233201234567", body="hello")
    request.schedule_time.FromSeconds(int(time.time()) + 3600)
    return (await stub.SendSms(request, timeout=10)).message_id


async def test_unary_calls_beyond_the_limit_are_refused_and_later_ones_are_not() -> None:
    async with gateway_with(max_calls=3) as (gateway, stub):
        gateway.connection.cut()
        waiting = [asyncio.ensure_future(stub.SendSms(SMS, timeout=20)) for _ in range(3)]
        await asyncio.sleep(0.3)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetStatus(api.GetStatusRequest(request_id="x"), timeout=10)
        assert refusal(refused.value) == BUSY
        gateway.connection.mend()
        await asyncio.gather(*waiting)
        assert (await stub.SendSms(SMS, timeout=10)).message_id


async def test_watchers_beyond_the_limit_are_refused_and_do_not_count_as_other_calls() -> None:
    async with gateway_with(max_watches=2, max_calls=1, max_batches=1) as (_, stub):
        message_id = await a_scheduled_message(stub)
        watches = [stub.WatchStatus(api.WatchStatusRequest(message_id=message_id), timeout=20) for _ in range(2)]
        for one in watches:
            await one.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.WatchStatus(api.WatchStatusRequest(message_id=message_id), timeout=10).read()
        assert refusal(refused.value) == BUSY
        assert (await stub.SendSms(SMS, timeout=10)).message_id
        watches[0].cancel()
        async with asyncio.timeout(10):
            while True:
                again = stub.WatchStatus(api.WatchStatusRequest(message_id=message_id), timeout=10)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await again.read()
                    break
        again.cancel()
        watches[1].cancel()


async def test_batch_streams_beyond_the_limit_are_refused() -> None:
    async with gateway_with(max_batches=1) as (_, stub):
        first: Any = stub.BatchSend(timeout=20)
        await first.write(api.BatchSendRequest(sequence=1, messages=[SMS]))
        assert (await first.read()).sequence == 1
        second: Any = stub.BatchSend(iter([api.BatchSendRequest(messages=[SMS])]), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(second))
        assert refusal(refused.value) == BUSY
        await first.done_writing()


async def test_an_idle_batch_stream_ends_after_its_answers_and_says_how_to_go_on() -> None:
    async with gateway_with(stream_idle_s=1.0) as (_, stub):
        call: Any = stub.BatchSend(timeout=20)
        await call.write(api.BatchSendRequest(sequence=1, messages=[SMS]))
        assert (await call.read()).sequence == 1
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert refusal(ended.value) == TOO_LONG
        assert time.monotonic() - began > 0.9
        assert "idle for 1 s" in (ended.value.details() or "")


async def test_a_batch_stream_that_is_never_idle_ends_too() -> None:
    async with gateway_with(stream_s=1.0) as (_, stub):

        async def chunks() -> AsyncIterator[api.BatchSendRequest]:
            while True:
                yield api.BatchSendRequest(messages=[SMS])
                await asyncio.sleep(0.05)

        answers: list[api.BatchSendResponse] = []

        async def read() -> None:
            async for answer in stub.BatchSend(chunks(), timeout=20):
                answers.append(answer)  # noqa: PERF401

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read()
        assert refusal(ended.value) == TOO_LONG
        assert len(answers) > 3
        assert all(answer.results[0].accepted.message_id for answer in answers)


async def test_a_watch_ends_after_its_time() -> None:
    async with gateway_with(stream_s=1.0) as (_, stub):
        message_id = await a_scheduled_message(stub)
        call: Any = stub.WatchStatus(api.WatchStatusRequest(message_id=message_id), timeout=20)
        assert (await call.read()).status.state == pb.MESSAGE_STATE_SCHEDULED
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert refusal(ended.value) == TOO_LONG


async def test_a_watcher_is_told_of_a_change_at_once(machine: Machine) -> None:
    async with gateway_with() as (_, stub):
        message_id = await a_scheduled_message(stub)
        call: Any = stub.WatchStatus(api.WatchStatusRequest(message_id=message_id), timeout=20)
        await call.read()
        await asyncio.sleep(0.3)
        await stub.CancelMessage(api.CancelMessageRequest(message_id=message_id), timeout=10)
        began = time.monotonic()
        assert (await call.read()).status.state == pb.MESSAGE_STATE_CANCELED
        machine.reaches(time.monotonic() - began, below=0.7)  # a slow look comes after a second
        assert await call.read() is grpc.aio.EOF


async def test_a_stopping_gateway_tells_its_watchers_at_once() -> None:
    async with contextlib.AsyncExitStack() as stack:
        running = contextlib.AsyncExitStack()
        gateway = await running.enter_async_context(serving(SETTINGS))
        stub = rpc.SmsGatewayServiceStub(await stack.enter_async_context(connected(gateway)))
        message_id = await a_scheduled_message(stub)
        call: Any = stub.WatchStatus(api.WatchStatusRequest(message_id=message_id), timeout=20)
        await call.read()
        stopping = asyncio.create_task(running.aclose())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert refusal(ended.value) == (grpc.StatusCode.UNAVAILABLE, "DRAINING", True)
        await stopping


async def test_connections_beyond_the_limit_are_closed_and_those_before_them_work() -> None:
    async with serving(attrs.evolve(SETTINGS, max_connections=3)) as gateway, contextlib.AsyncExitStack() as stack:
        stubs = []
        for _ in range(3):
            stubs.append(rpc.SmsGatewayServiceStub(await stack.enter_async_context(connected(gateway))))
            await stubs[-1].SendSms(SMS, timeout=10)
        fourth = rpc.SmsGatewayServiceStub(await stack.enter_async_context(connected(gateway)))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await fourth.SendSms(SMS, timeout=2)
        assert refused.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        for stub in stubs:
            assert (await stub.SendSms(SMS, timeout=10)).message_id


async def test_calls_beyond_the_limit_of_one_connection_wait() -> None:
    async with gateway_with(streams_per_connection=2) as (gateway, stub):
        message_id = await a_scheduled_message(stub)
        watches = [stub.WatchStatus(api.WatchStatusRequest(message_id=message_id), timeout=20) for _ in range(2)]
        for one in watches:
            await one.read()
        waiting = asyncio.ensure_future(stub.SendSms(SMS, timeout=20))
        async with connected(gateway) as another:
            assert (await rpc.SmsGatewayServiceStub(another).SendSms(SMS, timeout=10)).message_id
        assert not waiting.done()
        watches[0].cancel()
        assert (await waiting).message_id
        watches[1].cancel()


async def test_few_messages_of_chunks_are_judged_during_a_single_call() -> None:
    """Fifty streams with chunks of 1,000 refused messages: without turns a call waited for thousands of them."""
    chunk = api.BatchSendRequest(messages=[api.SendSmsRequest(recipient="?")] * 1000)
    async with gateway_with(max_batches=50) as (gateway, stub), connected(gateway) as other:
        await stub.SendSms(SMS, timeout=10)
        judged, acceptance = 0, cast("Any", gateway.acceptance)
        accept = acceptance.accept

        async def counting(client: str, request: api.SendSmsRequest, call: Any) -> Any:
            nonlocal judged
            judged += 1
            return await accept(client, request, call)

        acceptance.accept = counting
        many = rpc.SmsGatewayServiceStub(other)

        async def stream() -> None:
            async for answer in many.BatchSend(iter([chunk]), timeout=60):
                assert len(answer.results) == 1000
                assert answer.ByteSize() < 4 * 1024 * 1024, "which every client takes"

        streams = [asyncio.create_task(stream()) for _ in range(50)]
        while not judged:
            await asyncio.sleep(0.01)
        during = []
        for _ in range(5):
            before = judged
            await stub.SendSms(SMS, timeout=10)
            during.append(judged - before)
        assert judged < 50_000, "they were at work all the time"
        assert max(during) < 2000
        await asyncio.gather(*streams)
