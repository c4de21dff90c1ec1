"""A repeat of what was accepted is answered with it, whatever the rules have become; other contents are a conflict."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.trace import INVALID_SPAN
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.scheduler import Scheduler
from gateway_grpc.acceptance import Acceptance
from gateway_grpc.admission import Admission
from gateway_grpc.lookup import Lookup, StoredMessages
from gateway_grpc.repeats import repeats
from gateway_grpc.validation import Rules
from messaging import codec
from messaging.errors import InvalidRequest, NoRoute, RequestIdReused, StoreDown, StreamDown
from messaging.model import parse_address
from messaging.runtime.config import GatewaySettings, Settings
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream import topology as topo
from messaging.stream.fleet import FleetView
from messaging.stream.publisher import Publisher
from tests.memory_stream import MemoryConnection, MemoryStream
from tests.unit.virtual_time import in_virtual_time

DAY_S = 86_400.0


class Door:
    """A gateway's acceptance with its own settings and providers, over a stream that others share."""

    def __init__(self, stream: MemoryStream, *, providers: str = "p1 p2", history: Any = None, **settings: Any) -> None:
        gateway = GatewaySettings(**settings)
        self.connection = MemoryConnection(stream, timeout_s=1.0)
        known = [Provider(name, "simulated", "http://127.0.0.1:9") for name in providers.split()]
        view = FleetView(self.connection, known, 3.0)
        admission = Admission(view, gateway.max_backlog, gateway.max_backlog_per_provider, gateway.storage_fill)
        self.acceptance = Acceptance(
            self.connection, view, admission, gateway, Tracer(None, ChosenIds(), 0.0), None, history
        )

    async def accept(self, request: api.SendSmsRequest) -> api.SendSmsResponse:
        return await self.acceptance.accept("default", request, INVALID_SPAN)


def a_stream() -> MemoryStream:
    return MemoryStream(Settings(), ["p1", "p2"], time.time)


def order(**changes: Any) -> api.SendSmsRequest:
    return api.SendSmsRequest(**{"recipient": "+233201234567", "body": "Hello", "request_id": "once", **changes})


def at(seconds: float) -> Any:
    return codec.timestamp(time.time() + seconds)


@in_virtual_time
async def test_repeat_is_answered_although_its_schedule_time_has_passed_meanwhile() -> None:
    stream = a_stream()
    request = order(schedule_time=at(-292))
    first = await Door(stream).accept(request)
    await asyncio.sleep(12)
    again = await Door(stream).accept(request)
    assert (again.message_id, again.replayed) == (first.message_id, True)


@pytest.mark.parametrize(
    ("request_", "before", "after"),
    [
        (order(providers=["p2", "p1"]), {}, {"providers": "p1"}),
        (order(providers=["p2"]), {}, {"providers": "p1"}),
        (order(), {}, {"providers": ""}),
        (order(recipient="0201234567"), {"default_region": "GH"}, {}),
        (order(recipient="0201234567"), {"default_region": "GH"}, {"default_region": "DE"}),
        (order(recipient="+15551234567"), {}, {"strict_numbers": True}),
        (order(), {}, {"max_backlog": 0}),
        (order(), {}, {"storage_fill": 0.0}),
    ],
)
@in_virtual_time
async def test_repeat_is_answered_although_the_rules_have_changed(
    request_: api.SendSmsRequest, before: dict[str, Any], after: dict[str, Any]
) -> None:
    stream = a_stream()
    first = await Door(stream, **before).accept(request_)
    again = await Door(stream, **after).accept(request_)
    assert (again.message_id, again.replayed) == (first.message_id, True)
    assert len(stream.log(topo.ACCEPT).messages) == 1


@in_virtual_time
async def test_repeat_is_answered_although_this_version_refuses_what_the_last_one_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = a_stream()
    request = order(recipient="+4915123456789.0")
    with monkeypatch.context() as patch:
        patch.setattr("gateway_grpc.validation.to_e164", lambda *_, **__: ("+49151234567890", ""))
        first = await Door(stream).accept(request)
    again = await Door(stream).accept(request)
    assert (again.message_id, again.replayed, again.recipient) == (first.message_id, True, "+49151234567890")
    with pytest.raises(InvalidRequest):
        await Door(stream).accept(order(recipient="+4915123456789.00"))
    with pytest.raises(InvalidRequest):
        await Door(stream).accept(order(recipient="+4915123456789.0", request_id="new"))


SPELLINGS: list[dict[str, Any]] = [
    {"recipient": "+233 (20) 123-4567"},
    {"recipient": "020 123 4567"},
    {"ttl": Duration(seconds=86_400)},
    {"ttl": Duration(seconds=86_399, nanos=999_999_900)},
    {"priority": pb.PRIORITY_NORMAL},
    {"smart_encoding": True},
]


@pytest.mark.parametrize("change", SPELLINGS)
@in_virtual_time
async def test_same_message_in_another_spelling_is_a_repeat(change: dict[str, Any]) -> None:
    for first_change, second_change in (({}, change), (change, {})):
        stream = a_stream()
        first = await Door(stream, default_region="GH").accept(order(**first_change))
        again = await Door(stream, default_region="GH").accept(order(**second_change))
        assert (again.message_id, again.replayed) == (first.message_id, True)


@in_virtual_time
async def test_same_text_in_another_unicode_form_is_a_repeat() -> None:
    stream = a_stream()
    await Door(stream).accept(order(body="\u00e9"))
    assert (await Door(stream).accept(order(body="e\u0301"))).replayed
    await Door(stream).accept(order(body="\u2019", smart_encoding=True, request_id="quote"))
    assert (await Door(stream).accept(order(body="'", request_id="quote"))).replayed


@in_virtual_time
async def test_same_text_with_other_line_ends_is_a_repeat() -> None:
    for first, second in (("a\nb", "a\r\nb"), ("a\r\nb", "a\nb"), ("a\rb", "a\nb")):
        stream = a_stream()
        await Door(stream).accept(order(body=first))
        assert (await Door(stream).accept(order(body=second))).replayed
    with pytest.raises(RequestIdReused):
        await Door(stream).accept(order(body="a\n\nb"))


OTHERS: list[dict[str, Any]] = [
    {"recipient": "+233201234568"},
    {"body": "Hello "},
    {"sender": "Shop"},
    {"ttl": Duration(seconds=86_399)},
    {"priority": pb.PRIORITY_BULK},
    {"providers": ["p1", "p2"]},
    {"client_reference": "x"},
    {"callback_url": "https://x.example/"},
    {"labels": {"a": "b"}},
]


@pytest.mark.parametrize("change", OTHERS)
@in_virtual_time
async def test_other_contents_are_a_conflict(change: dict[str, Any]) -> None:
    stream = a_stream()
    first = await Door(stream).accept(order())
    with pytest.raises(RequestIdReused, match=first.message_id):
        await Door(stream).accept(order(**change))


@in_virtual_time
async def test_other_contents_are_a_conflict_also_when_todays_rules_refuse_them() -> None:
    stream = a_stream()
    first = await Door(stream).accept(order())
    for change in ({"schedule_time": at(-400)}, {"providers": ["gone"]}, {"body": ""}, {"body": "x" * 2000}):
        with pytest.raises(RequestIdReused, match=first.message_id):
            await Door(stream).accept(order(**change))
    with pytest.raises(InvalidRequest):
        await Door(stream).accept(order(recipient="nobody"))


@in_virtual_time
async def test_order_of_providers_and_schedule_make_another_message() -> None:
    stream = a_stream()
    await Door(stream).accept(order(providers=["p1", "p2"]))
    with pytest.raises(RequestIdReused):
        await Door(stream).accept(order(providers=["p2", "p1"]))
    for request in (order(schedule_time=at(60)), order(schedule_time=at(-60), ttl=Duration(seconds=5))):
        with pytest.raises(RequestIdReused):
            await Door(stream).accept(request)


def test_every_field_of_a_request_is_compared_or_does_not_change_the_message() -> None:
    spelling = {"request_id", "smart_encoding"}  # the key itself; and what only changes the text, which is compared
    changed = {name for change in (*OTHERS, {"schedule_time": 0}) for name in change}
    assert {field.name for field in api.SendSmsRequest.DESCRIPTOR.fields} == changed | spelling


@asynccontextmanager
async def scheduling(stream: MemoryStream, window_s: float = DAY_S) -> AsyncIterator[None]:
    connection = MemoryConnection(stream, timeout_s=1.0)
    task = asyncio.create_task(Scheduler(connection, 20.0, window_s).run())
    yield
    task.cancel()
    await asyncio.wait({task})


HOUR_S, WINDOW_S = 3600.0, 600.0
"""A short window, so that few virtual seconds pass in a test."""


@in_virtual_time
async def test_window_of_a_scheduled_message_counts_from_its_time() -> None:
    stream = MemoryStream(Settings(gateway=GatewaySettings(window_s=WINDOW_S)), ["p1", "p2"], time.time)
    door = Door(stream, window_s=WINDOW_S)
    request = order(schedule_time=at(HOUR_S), ttl=Duration(seconds=30))
    async with scheduling(stream, window_s=WINDOW_S):
        first = await door.accept(request)
        for after_s in (1, WINDOW_S + 10, HOUR_S - 1, HOUR_S + 1, HOUR_S + 400, HOUR_S + WINDOW_S - 1):
            await asyncio.sleep(codec.unix(first.accept_time) + after_s - time.time())
            again = await door.accept(request)
            assert (again.message_id, again.replayed, again.deadline) == (first.message_id, True, first.deadline)
            with pytest.raises(RequestIdReused):
                await door.accept(order(schedule_time=request.schedule_time, body="other"))
        await asyncio.sleep(2)
        assert not (await door.accept(order(schedule_time=at(60)))).replayed


class Commands:
    """A history that holds what was accepted, or is down."""

    def __init__(self, stream: MemoryStream, *, down: bool = False) -> None:
        self._stream = stream
        self._down = down
        self._held: dict[str, wire.Command] = {}

    def project(self) -> None:
        for one in self._stream.log(topo.ACCEPT).messages.values():
            command = codec.decode(wire.QueueEntry, one.subject, one.data).command
            self._held[command.message_id] = command

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        if self._down:
            raise StoreDown("reading")
        return self._held.get(message_id)


@in_virtual_time
async def test_canceled_message_is_not_sent_by_a_repeat_after_a_day() -> None:
    stream = MemoryStream(Settings(gateway=GatewaySettings(window_s=WINDOW_S)), ["p1", "p2"], time.time)
    history = Commands(stream)
    door = Door(stream, history=history, window_s=WINDOW_S)
    request = order(schedule_time=at(HOUR_S))
    async with scheduling(stream):
        first = await door.accept(request)
        history.project()
        await asyncio.sleep(1)
        lookup = Lookup(door.connection, cast("StoredMessages", None), door.acceptance.key, "pod")
        await lookup.cancel("default", message_id=first.message_id)
        for _ in range(2):
            again = await door.accept(request)
            assert (again.message_id, again.replayed) == (first.message_id, True)
            assert again.state == pb.MESSAGE_STATE_CANCELED
            await asyncio.sleep(WINDOW_S + 10)
        with pytest.raises(RequestIdReused):
            await door.accept(order(schedule_time=request.schedule_time, body="other"))
        with pytest.raises(StoreDown):
            await Door(stream, history=Commands(stream, down=True), window_s=WINDOW_S).accept(request)
        assert not stream.log(topo.ACCEPT).messages


@pytest.mark.parametrize(("window_s", "kept"), [(DAY_S, "259200s"), (5 * DAY_S, "432000s")])
@in_virtual_time
async def test_schedule_that_has_fired_is_kept_as_long_as_it_must_be_recognised(window_s: float, kept: str) -> None:
    stream = a_stream()
    async with scheduling(stream, window_s=window_s):
        await Door(stream).accept(order(schedule_time=at(60)))
        await asyncio.sleep(61)
        fired = stream.log(topo.LATER_STREAM).last("sms.due.>")
        assert fired is not None
        assert fired.headers[topo.H_TTL] == kept


@in_virtual_time
async def test_scheduled_message_repeated_while_it_is_retried_is_the_same() -> None:
    stream = MemoryStream(Settings(gateway=GatewaySettings(window_s=WINDOW_S)), ["p1", "p2"], time.time)
    request = order(schedule_time=at(HOUR_S))
    async with scheduling(stream):
        first = await Door(stream, window_s=WINDOW_S).accept(request)
        await asyncio.sleep(HOUR_S + 60)
        fired = stream.log(topo.LATER_STREAM).last("sms.due.>")
        assert fired is not None
        entry = codec.decode(wire.QueueEntry, fired.subject, fired.data)
        retried = Publisher(MemoryConnection(stream))
        await retried.schedule(entry, parse_address(fired.subject), "p2", "normal", time.time() + 7200)
        assert (await Door(stream, window_s=WINDOW_S).accept(request)).message_id == first.message_id


@in_virtual_time
async def test_refusal_of_a_repeat_is_not_told_while_the_stream_cannot_be_asked() -> None:
    stream = a_stream()
    request = order(schedule_time=at(-292))
    await Door(stream).accept(request)
    await asyncio.sleep(12)
    door = Door(stream)
    down: Callable[..., Any] = _raise_stream_down
    door.acceptance._connection = _Down(door.connection, down)
    with pytest.raises(StreamDown):
        await door.accept(request)


async def _raise_stream_down(*_: object) -> None:
    raise StreamDown("reading")


class _Down:
    """A connection on which nothing can be read."""

    def __init__(self, connection: MemoryConnection, last: Callable[..., Any]) -> None:
        self._connection = connection
        self.last = last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@in_virtual_time
async def test_refused_message_that_was_never_accepted_is_refused_as_ever() -> None:
    door = Door(a_stream(), providers="")
    with pytest.raises(NoRoute):
        await door.accept(order())
    with pytest.raises(InvalidRequest):
        await door.accept(order(body=""))
    with pytest.raises(InvalidRequest):
        await door.accept(order(body="", request_id="not a key"))


def test_contents_that_cannot_be_read_are_not_compared() -> None:
    assert repeats(wire.Command(recipient="+1"), order(recipient="x"), Rules(())) is None
    assert repeats(wire.Command(), api.SendSmsRequest(recipient="+233201234567", priority=9), Rules(())) is None  # type: ignore[arg-type]
