"""One trace for each message across all processes, and no private data in logs or spans."""

import asyncio
import json
import pathlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent import futures

import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_rpc
from opentelemetry.proto.trace.v1 import trace_pb2
from rig import Rig, eventually, running
from sms.gateway.v1 import gateway_pb2 as api

SECRET_TEXT = "The moon is made of basalt"
SECRET_NUMBER = "+233209990503"


class Collector(otlp_rpc.TraceServiceServicer):
    """Receives spans over OTLP as a real collector would."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, trace_pb2.Span]] = []

    def Export(  # noqa: N802
        self, request: otlp.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> otlp.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        return otlp.ExportTraceServiceResponse()

    async def trace(self, trace_id: str, wanted: Counter[tuple[str, str]], within_s: float = 40.0):
        """Wait for at least these spans, and for the parents of all received spans."""
        end = time.monotonic() + within_s
        while True:
            found = [(service, span) for service, span in self.spans if span.trace_id.hex() == trace_id]
            known = {span.span_id for _, span in found}
            orphans = [span for _, span in found if span.parent_span_id and span.parent_span_id not in known]
            if wanted <= Counter((service, span.name) for service, span in found) and len(orphans) <= 1:
                return found
            assert time.monotonic() < end, sorted((service, span.name) for service, span in found)
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    sink = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    otlp_rpc.add_TraceServiceServicer_to_server(sink, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield sink, f"http://127.0.0.1:{port}"
    server.stop(None)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(open_folder: pathlib.Path, collector: tuple[Collector, str]) -> AsyncIterator[Rig]:
    environment = {"SMSGW_OTLP_ENDPOINT": collector[1], "SMSGW_LOG_LEVEL": "debug"}
    plan = {"providers": ("p1", "p2"), "environment": environment}
    async with running(open_folder / "story", **plan) as rig:
        yield rig


async def test_one_trace_goes_from_the_caller_through_a_failover_to_the_history(
    rig: Rig, collector: tuple[Collector, str]
) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    await rig.behave("p1", by_suffix={"0503": "unavailable"})
    request = api.SendSmsRequest(recipient=SECRET_NUMBER, body=SECRET_TEXT, providers=["p1", "p2"])
    metadata = (("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"),)
    answer = await rig.stub().SendSms(request, metadata=metadata)
    status = await rig.until(answer.message_id, "SENT")
    assert status.trace_id == trace_id
    spans = await collector[0].trace(
        trace_id,
        Counter(
            {
                ("gateway", "sms.gateway.v1.SmsGatewayService/SendSms"): 1,
                ("gateway", "publish"): 1,
                ("dispatcher", "consume"): 2,
                ("dispatcher", "pace"): 2,
                ("dispatcher", "send"): 2,
                ("projector", "project"): 5,
            }
        ),
    )
    by_id = {span.span_id: span for _, span in spans}
    [door] = [span for _, span in spans if span.name.endswith("/SendSms")]
    assert door.parent_span_id.hex() == "00f067aa0ba902b7"
    sends = sorted((span for _, span in spans if span.name == "send"), key=lambda s: s.start_time_unix_nano)
    providers = [{a.key: a.value.string_value for a in one.attributes}["sms.provider"] for one in sends]
    assert providers == ["p1", "p2"]
    for _, span in spans:
        at = span
        while at is not door:
            at = by_id[at.parent_span_id]
    seen = await rig.received([answer.message_id])
    assert [one["traceparent"].split("-")[1] for one in seen] == [trace_id, trace_id]
    assert [one["traceparent"].split("-")[2] for one in seen] == [span.span_id.hex() for span in sends]


async def test_each_message_of_a_batch_has_its_own_trace(rig: Rig, collector: tuple[Collector, str]) -> None:
    results = await rig.batch(rig.load(3))
    stories = [await rig.until(one.accepted.message_id, "SENT") for one in results]
    assert len({one.trace_id for one in stories}) == 3
    for story in stories:
        await collector[0].trace(story.trace_id, Counter([("gateway", "accept"), ("dispatcher", "send")]))


async def test_no_log_and_no_span_contains_a_text_or_a_number(rig: Rig, collector: tuple[Collector, str]) -> None:
    await rig.behave("p1", "p2", by_suffix={"0400": "bad_request", "0001": "take_and_reset"})
    sent = [
        await rig.send(recipient=f"+23320999{suffix}", body=SECRET_TEXT, request_id=f"hidden-{suffix}")
        for suffix in ("0400", "0001", "0503")
    ]
    from grpc.aio import AioRpcError

    with pytest.raises(AioRpcError):
        await rig.send(recipient="+2332099905x3", body=SECRET_TEXT * 100)
    traces = {(await rig.until_attempted(one.message_id)).trace_id for one in sent}

    async def exported() -> bool:
        sends = {span.trace_id.hex() for _, span in collector[0].spans if span.name == "send"}
        return traces <= sends and all(logged(rig, one.message_id, "attempt") for one in sent)

    await eventually(exported)
    logs = "".join(path.read_text() for path in rig.system.logs.glob("*.log"))
    spans = "".join(str(span) for _, span in collector[0].spans)
    for hidden in ("basalt", "23320999"):
        assert hidden not in logs
        assert hidden not in spans


def logged(rig: Rig, message_id: str, event: str = "") -> list[dict[str, str]]:
    """Return the log lines of gateway and dispatchers about a message."""
    lines = [
        json.loads(line)
        for path in rig.system.logs.glob("[gd]*.log")
        for line in path.read_text().splitlines(keepends=True)
        if message_id in line and line.endswith("\n")
    ]
    return [one for one in lines if event in {"", one["event"]}]


async def test_logs_are_json_lines_with_message_and_trace(rig: Rig) -> None:
    answer = await rig.send()
    status = await rig.until(answer.message_id, "SENT")

    async def both_logged() -> bool:
        return bool(logged(rig, answer.message_id, "call") and logged(rig, answer.message_id, "attempt"))

    await eventually(both_logged)
    lines = logged(rig, answer.message_id)
    assert {(one["event"], one["service"]) for one in lines} == {("call", "gateway"), ("attempt", "dispatcher")}
    assert {one["trace_id"] for one in lines} == {status.trace_id}
