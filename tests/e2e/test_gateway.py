"""What the gateway guarantees: one message for each request, all faults at once, room or a clear refusal."""

import asyncio
import contextlib
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rig import BULK, Rig, eventually, reasons
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from ops.embedded.child import free_port


async def test_repeated_request_gets_the_first_message_at_every_gateway(rig: Rig) -> None:
    request = {"recipient": rig.number(), "body": "Once", "request_id": "same-request"}
    first = await rig.send(**request)
    again = await rig.send(gateway=1, **request)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.message_id == first.message_id
    await rig.until(first.message_id, "SENT")
    settled = await rig.send(**request)
    assert (settled.message_id, settled.state) == (first.message_id, pb.MESSAGE_STATE_SENT)
    assert len(await rig.received([first.message_id])) == 1


async def test_another_message_under_the_same_request_id_is_refused(rig: Rig) -> None:
    recipient = rig.number()
    first = await rig.send(recipient=recipient, body="One", request_id="reused")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.send(gateway=1, recipient=recipient, body="Two", request_id="reused")
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    info = reasons(caught.value)["ErrorInfo"]
    assert (info.reason, info.metadata["message_id"]) == ("REQUEST_ID_REUSED", first.message_id)


async def test_concurrent_repeats_become_one_message(rig: Rig) -> None:
    requests = [{"recipient": rig.number(), "body": "Repeated", "request_id": f"repeat-{n}"} for n in range(40)]
    answers = await asyncio.gather(*(rig.send(gateway=n % 2, **request) for request in requests for n in range(4)))
    ids = {answer.message_id for answer in answers}
    assert len(ids) == 40
    assert sum(not answer.replayed for answer in answers) == 40
    seen = await rig.until_received(40, ids, 60)
    assert len(seen) == 40


async def test_callers_trace_reaches_the_provider_without_an_exporter(rig: Rig) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    request = api.SendSmsRequest(recipient=rig.number(), body="Traced")
    answer = await rig.stub().SendSms(request, metadata=(("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"),))
    status = await rig.until(answer.message_id, "SENT")
    [taken] = await rig.received([answer.message_id])
    assert status.trace_id == trace_id
    version, travelled, span_id, flags = taken["traceparent"].split("-")
    assert (version, travelled, flags) == ("00", trace_id, "01")
    assert span_id != "00f067aa0ba902b7"
    untraced = await rig.send()
    await rig.until(untraced.message_id, "SENT")
    [taken] = await rig.received([untraced.message_id])
    assert taken["traceparent"].split("-")[1] == (await rig.status(untraced.message_id)).trace_id != trace_id


async def test_every_invalid_field_is_named_at_once_and_no_value_is_repeated(rig: Rig) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.send(recipient="not-a-number", body="", sender="far too long a sender", providers=["p1", "p1", "X"])
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    fields = {one.field for one in reasons(caught.value)["BadRequest"].field_violations}
    assert fields == {"recipient", "body", "sender", "providers", "providers[2]"}
    assert "not-a-number" not in str(caught.value.details())


async def test_unknown_provider_is_named_with_those_that_exist(rig: Rig) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.send(providers=["p9"])
    [violation] = reasons(caught.value)["BadRequest"].field_violations
    assert violation.field == "providers[0]"
    assert "p1, p2" in violation.description


async def test_invalid_message_does_not_fail_the_others(rig: Rig) -> None:
    messages = rig.load(20)
    messages[7].recipient = "12"
    results = await rig.batch(messages)
    assert [n for n, one in enumerate(results) if one.HasField("error")] == [7]
    assert results[7].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_chunk_that_is_too_large_is_refused_with_its_field(rig: Rig) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.batch(rig.load(1001), chunk=1001)
    [violation] = reasons(caught.value)["BadRequest"].field_violations
    assert violation.field == "messages"


async def test_batch_of_a_killed_gateway_is_resumed_without_duplicates(rig: Rig) -> None:
    address = f"127.0.0.1:{free_port()}"
    rig.system.gateways.append(address)
    rig.system.spawn("gateway-doomed", "gateway_grpc", SMSGW_LISTEN=address)
    doomed = len(rig.system.gateways) - 1
    await serving(address)
    messages = rig.load(1000, priority=BULK)
    answered: list[api.BatchSendResult] = []

    async def first_try() -> None:
        chunks = [api.BatchSendRequest(sequence=n, messages=messages[n : n + 50]) for n in range(0, 1000, 50)]
        async for response in rig.stub(doomed).BatchSend(iter(chunks), timeout=30):
            answered.extend(response.results)
            if len(answered) >= 300:
                rig.system.signal("gateway-doomed", signal.SIGKILL)

    with contextlib.suppress(grpc.aio.AioRpcError):
        await first_try()
    assert 300 <= len(answered) < 1000
    results = await rig.batch(messages)
    rig.system.processes.pop("gateway-doomed")
    rig.system.gateways.pop()
    ids = [one.accepted.message_id for one in results]
    assert [one.accepted.message_id for one in answered] == ids[: len(answered)]
    assert sum(one.accepted.replayed for one in results) >= len(answered)
    seen = await rig.until_received(1000, set(ids), 60)
    assert len(seen) == 1000


async def serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]

        async def answers() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
            return False

        await eventually(answers)


async def test_message_is_refused_until_the_backlog_has_room(rig: Rig) -> None:
    address = f"127.0.0.1:{free_port()}"
    rig.system.gateways.append(address)
    rig.system.spawn("gateway-narrow", "gateway_grpc", SMSGW_LISTEN=address, SMSGW_MAX_BACKLOG_PER_PROVIDER="25")
    narrow = len(rig.system.gateways) - 1
    try:
        await serving(address)
        await rig.behave("p2", force="throttle", retry_after_s=4)
        messages = rig.load(60, providers=["p2"])
        results = await rig.batch(messages, gateway=narrow)
        refused = [one.error for one in results if one.HasField("error")]
        assert len(refused) == 35
        assert {one.code for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.send(gateway=narrow, providers=["p2"])
        details = reasons(caught.value)
        assert details["ErrorInfo"].reason == "BACKLOG_FULL"
        assert details["RetryInfo"].retry_delay.seconds >= 1
        assert details["QuotaFailure"].violations[0].subject == "provider p2"
        accepted = next(n for n, one in enumerate(results) if one.HasField("accepted"))
        again = await rig.stub(narrow).SendSms(messages[accepted])
        assert again.replayed
        await rig.behave("p2")
        end = time.monotonic() + 60
        waiting = [messages[n] for n, one in enumerate(results) if one.HasField("error")]
        while waiting:
            assert time.monotonic() < end
            await asyncio.sleep(0.5)
            results = await rig.batch(waiting, gateway=narrow)
            waiting = [waiting[n] for n, one in enumerate(results) if one.HasField("error")]
    finally:
        rig.system.processes.pop("gateway-narrow").stop(signal.SIGTERM, 20)
        rig.system.gateways.pop()


async def test_stopping_gateway_finishes_its_calls(rig: Rig) -> None:
    address = f"127.0.0.1:{free_port()}"
    rig.system.gateways.append(address)
    child = rig.system.spawn("gateway-leaving", "gateway_grpc", SMSGW_LISTEN=address)
    leaving = len(rig.system.gateways) - 1
    await serving(address)
    calls = [asyncio.create_task(rig.send(gateway=leaving, request_id=f"leaving-{n}")) for n in range(50)]
    await asyncio.sleep(0.02)
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        child.send(signal.SIGTERM)
        end = time.monotonic() + 20
        while (await check(health_pb2.HealthCheckRequest())).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            assert time.monotonic() < end
    answers = await asyncio.gather(*calls, return_exceptions=True)
    rig.system.processes.pop("gateway-leaving")
    rig.system.gateways.pop()
    assert await asyncio.to_thread(child.wait, 20)
    assert child.exit_code == 0
    accepted = [one for one in answers if isinstance(one, api.SendSmsResponse)]
    refused = [one for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert {one.code() for one in refused} <= {grpc.StatusCode.UNAVAILABLE}
    for one in accepted:
        await rig.until(one.message_id, "SENT")


async def test_estimate_names_what_forces_ucs2_and_sends_nothing(rig: Rig) -> None:
    before = len(await rig.requests())
    message = api.SendSmsRequest(recipient=rig.number(), body="Ünïcode costs more €", providers=["p3", "p1"])
    answer = await rig.stub().EstimateSms(api.EstimateSmsRequest(message=message))
    assert (answer.encoding, answer.segments) == (pb.ENCODING_UCS2, 1)
    assert [(one.character, one.position) for one in answer.culprits] == [("ï", 2)]
    assert list(answer.providers) == ["p3", "p1"]
    await asyncio.sleep(0.3)
    assert len(await rig.requests()) == before


async def test_smart_encoding_keeps_a_text_in_gsm7(rig: Rig) -> None:
    message = api.SendSmsRequest(recipient=rig.number(), body="It’s “fine” — really…", smart_encoding=True)
    answer = await rig.stub().EstimateSms(api.EstimateSmsRequest(message=message))
    assert answer.encoding == pb.ENCODING_GSM7
    assert {getattr(one, "from") for one in answer.replacements} == {"’", "“", "”", "—", "…"}


async def test_grpcurl_works_with_reflection_alone(rig: Rig) -> None:
    grpcurl = pathlib.Path(sys.executable).parent / "grpcurl"
    listed = await asyncio.to_thread(
        subprocess.run,
        [grpcurl, "-plaintext", rig.system.gateways[0], "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sms.gateway.v1.SmsGatewayService" in listed.stdout.split()
    assert "grpc.health.v1.Health" in listed.stdout.split()


@pytest.mark.parametrize("message_id", ["00000000-0000-7000-8000-000000000000", "01a20146-8421-42d3-98b7-7a8dce1a5a06"])
async def test_unknown_message_is_not_found(rig: Rig, message_id: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.status(message_id)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert reasons(caught.value)["ErrorInfo"].reason == "MESSAGE_NOT_FOUND"


async def test_gateway_stops_reading_from_a_caller_that_does_not_read_its_answers(rig: Rig) -> None:
    pulled = 0

    def chunks() -> Iterator[api.BatchSendRequest]:
        nonlocal pulled
        for n in range(60):
            pulled += 1
            yield api.BatchSendRequest(sequence=n, messages=[refused] * 1000)

    # Refused messages cost the system nothing. A chunk has 1 MB, so the transport buffers only a few.
    refused = api.SendSmsRequest(recipient="12", body="x" * 1000)
    # A fixed window: one that grows with the speed of the connection would buffer everything in the client.
    options = [("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(rig.system.gateways[0], options=options) as channel:
        call = rpc.SmsGatewayServiceStub(channel).BatchSend(chunks(), timeout=60)
        answered = [cast(api.BatchSendResponse, await call.read()).sequence]
        settled = 0
        while settled != pulled:
            settled = pulled
            await asyncio.sleep(2)
        assert settled < 40  # the server's window, which grows with the connection's speed, holds up to 16 of them
        while (response := await call.read()) is not grpc.aio.EOF:
            answered.append(cast(api.BatchSendResponse, response).sequence)
    assert answered == list(range(60))
