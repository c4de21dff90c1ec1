"""Acceptance on the memory stream: one message for one key, whatever requests or answers are lost."""

import time
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.trace import INVALID_SPAN
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.admission import Admission
from messaging import codec
from messaging.errors import BacklogFull, Draining, InvalidRequest, NoRoute, RequestIdReused, StreamDown, StreamFull
from messaging.model import address_of, parse_address
from messaging.runtime.config import GatewaySettings, Settings
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream import topology as topo
from messaging.stream.fleet import FleetView
from messaging.stream.publisher import Publisher
from tests.memory_stream import Crash, MemoryConnection, MemoryStream
from tests.unit.virtual_time import in_virtual_time

GATEWAY = GatewaySettings(accept_budget_s=3.0)
PROVIDERS = [Provider(name, "simulated", "http://127.0.0.1:9") for name in ("p1", "p2")]


class Gateway:
    """One gateway process; several may share one stream."""

    def __init__(self, stream: MemoryStream, at_step: Callable[[str], None] = lambda _: None) -> None:
        self.connection = MemoryConnection(stream, at_step, timeout_s=1.0)
        self.view = FleetView(self.connection, PROVIDERS, 3.0)
        admission = Admission(self.view, GATEWAY.max_backlog, GATEWAY.max_backlog_per_provider, GATEWAY.storage_fill)
        self.acceptance = Acceptance(self.connection, self.view, admission, GATEWAY, Tracer(None, ChosenIds(), 0.0))

    async def accept(self, request: api.SendSmsRequest) -> api.SendSmsResponse:
        return await self.acceptance.accept("default", request, INVALID_SPAN)


def a_stream() -> MemoryStream:
    return MemoryStream(Settings(), ["p1", "p2"], time.time)


def a_request(request_id: str = "", body: str = "Hello", **rest: object) -> api.SendSmsRequest:
    return api.SendSmsRequest(recipient="+233201234567", body=body, request_id=request_id, **rest)  # type: ignore[arg-type]


def stored(stream: MemoryStream) -> list[tuple[str, wire.Command]]:
    messages = stream.log(topo.ACCEPT).messages.values()
    return [(one.subject, codec.decode(wire.QueueEntry, one.subject, one.data).command) for one in messages]


@in_virtual_time
async def test_accepted_message_is_stored_with_all_that_the_caller_sent() -> None:
    stream = a_stream()
    request = a_request(
        "order-7",
        "Hällo",
        sender="Shop",
        priority=pb.PRIORITY_BULK,
        client_reference="basket",
        callback_url="https://shop.example/sms",
        labels={"a": "b"},
        providers=["p2", "p1"],
    )
    answer = await Gateway(stream).accept(request)
    [(subject, command)] = stored(stream)
    assert subject == topo.accept_subject("p2", "bulk", address_of("default", answer.message_id))
    for field in ("body", "recipient", "sender", "priority", "client_reference", "callback_url", "labels", "providers"):
        assert getattr(command, field) == getattr(request, field), field
    assert (command.message_id, command.provider, command.request_id) == (answer.message_id, "p2", "order-7")
    assert (answer.state, answer.replayed, answer.segments) == (pb.MESSAGE_STATE_ACCEPTED, False, 1)
    assert answer.deadline == command.deadline
    assert codec.unix(command.accept_time) == time.time()


@pytest.mark.parametrize(
    ("request_id", "in_s", "lane", "ttl"),
    [
        ("", None, "normal", f"{GATEWAY.unkeyed_ttl_s:.0f}"),
        ("kept", None, "normal", None),
        ("", 3600, "later", None),
        ("kept", 3600, "later", None),
    ],
)
@in_virtual_time
async def test_lane_and_time_to_live_follow_from_key_and_schedule(
    request_id: str, in_s: float | None, lane: str, ttl: str | None
) -> None:
    stream = a_stream()
    request = a_request(request_id)
    if in_s is not None:
        request.schedule_time.CopyFrom(codec.timestamp(time.time() + in_s))
    answer = await Gateway(stream).accept(request)
    [message] = stream.log(topo.ACCEPT).messages.values()
    assert message.subject.split(".")[3] == lane
    assert message.headers.get(topo.H_TTL) == ttl
    assert answer.state == (pb.MESSAGE_STATE_SCHEDULED if in_s else pb.MESSAGE_STATE_ACCEPTED)


@in_virtual_time
async def test_repeat_at_another_gateway_is_answered_with_the_first_message_and_its_state_now() -> None:
    stream = a_stream()
    first = await Gateway(stream).accept(a_request("once"))
    address = address_of("default", first.message_id)
    event = wire.Event(message_id=first.message_id, client="default", state=pb.MESSAGE_STATE_SENT)
    await Publisher(MemoryConnection(stream)).append_event(address, event, 0)
    again = await Gateway(stream).accept(a_request("once"))
    assert (again.message_id, again.replayed, again.state) == (first.message_id, True, pb.MESSAGE_STATE_SENT)
    assert len(stored(stream)) == 1


@in_virtual_time
async def test_other_contents_under_the_same_key_are_refused() -> None:
    stream = a_stream()
    gateway = Gateway(stream)
    first = await gateway.accept(a_request("once"))
    with pytest.raises(RequestIdReused, match=first.message_id):
        await gateway.accept(a_request("once", "other"))


@in_virtual_time
async def test_messages_without_a_key_are_each_their_own() -> None:
    stream = a_stream()
    gateway = Gateway(stream)
    answers = [await gateway.accept(a_request()) for _ in range(3)]
    assert len({answer.message_id for answer in answers}) == len(stored(stream)) == 3


class Falters:
    """Lets the first publishes fail before or after they were stored."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._steps = list(steps)

    def __call__(self, step: str) -> None:
        if self._steps and step == f"{self._steps[0]} publish sms.accept":
            self._steps.pop(0)
            raise StreamDown(step)


@pytest.mark.parametrize("steps", [("after",), ("before",), ("after", "before"), ("after", "after")])
@in_virtual_time
async def test_lost_answers_are_asked_for_again_and_the_message_is_stored_once(steps: Sequence[str]) -> None:
    stream = a_stream()
    answer = await Gateway(stream, Falters(steps)).accept(a_request("once"))
    [(subject, _)] = stored(stream)
    assert parse_address(subject).message_id == answer.message_id
    assert not answer.replayed


@in_virtual_time
async def test_stream_that_stays_away_is_told_within_the_budget_and_the_same_key_finds_the_message() -> None:
    stream = a_stream()
    gateway = Gateway(stream, Falters(["after"] * 20))
    began = time.monotonic()
    with pytest.raises(StreamDown):
        await gateway.accept(a_request("once"))
    assert time.monotonic() - began <= GATEWAY.accept_budget_s + 1
    answer = await Gateway(stream).accept(a_request("once"))
    assert answer.replayed
    assert [command.message_id for _, command in stored(stream)] == [answer.message_id]


@pytest.mark.parametrize("moment", ["before", "after"])
@in_virtual_time
async def test_gateway_that_crashes_leaves_all_of_the_message_or_nothing(moment: str) -> None:
    stream = a_stream()

    def crash(step: str) -> None:
        if step == f"{moment} publish sms.accept":
            raise Crash

    with pytest.raises(Crash):
        await Gateway(stream, crash).accept(a_request("once"))
    answer = await Gateway(stream).accept(a_request("once"))
    assert answer.replayed == (moment == "after")
    assert [command.message_id for _, command in stored(stream)] == [answer.message_id]


@in_virtual_time
async def test_busy_key_is_waited_for() -> None:
    stream = a_stream()
    gateway = Gateway(stream)
    gateway.connection.busy = 3
    assert not (await gateway.accept(a_request("once"))).replayed
    assert len(stored(stream)) == 1


@in_virtual_time
async def test_full_backlog_refuses_new_messages_and_knows_those_it_has() -> None:
    stream = a_stream()
    gateway = Gateway(stream)
    first = await gateway.accept(a_request("once"))
    gateway.view.backlog = dict.fromkeys(["p1", "p2"], GATEWAY.max_backlog_per_provider)
    assert (await gateway.accept(a_request("once"))).message_id == first.message_id
    for request in (a_request("new"), a_request()):
        with pytest.raises(BacklogFull):
            await gateway.accept(request)
    gateway.view.backlog = {}
    gateway.view.storage_fill = 1.0
    assert (await gateway.accept(a_request("once"))).replayed
    with pytest.raises(StreamFull):
        await gateway.accept(a_request("new"))
    assert len(stored(stream)) == 1


@in_virtual_time
async def test_nothing_is_accepted_that_is_wrong_has_no_route_or_comes_after_the_end() -> None:
    stream = a_stream()
    gateway = Gateway(stream)
    with pytest.raises(InvalidRequest):
        await gateway.accept(a_request(body=""))
    gateway.acceptance.close()
    with pytest.raises(Draining):
        await gateway.accept(a_request())
    nowhere = Gateway(stream)
    nowhere.acceptance._view = FleetView(nowhere.connection, [], 3.0)
    with pytest.raises(NoRoute):
        await nowhere.accept(a_request())
    assert not stored(stream)


@in_virtual_time
async def test_estimate_tells_the_order_of_providers_and_accepts_nothing() -> None:
    stream = a_stream()
    gateway = Gateway(stream)
    checked, order, why = gateway.acceptance.estimate(a_request(body="Hello", providers=["p2", "p1"]))
    assert (checked.segmentation.segments, order) == (1, ["p2", "p1"])
    assert why == "first healthy of the caller's list"
    assert not stored(stream)
