"""Requests that no client of ours would send, to every method: refused as INVALID_ARGUMENT, briefly, in one log line.

The methods and their fields are read from the descriptors: one that is added later is tried too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import attrs
import grpc
import pytest
import pytest_asyncio
import structlog
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from memory_gateway import connected, serving
from sms.gateway.v1 import gateway_pb2 as api
from structlog.testing import LogCapture

from gateway_grpc.chunk import MAX_MESSAGE_BYTES
from messaging.runtime.config import GatewaySettings

SERVICE: Any = api.DESCRIPTOR.services_by_name["SmsGatewayService"]
METHODS = {method.name: method for method in SERVICE.methods}
SMS = api.SendSmsRequest(recipient="+233201234567", body="hello")
ID = "018bcfe5-6800-7000-8000-000000000000"
GOOD: dict[str, Message] = {
    "SendSms": SMS,
    "BatchSend": api.BatchSendRequest(messages=[SMS]),
    "GetStatus": api.GetStatusRequest(message_id=ID),
    "WatchStatus": api.WatchStatusRequest(message_id=ID),
    "ListMessages": api.ListMessagesRequest(),
    "CancelMessage": api.CancelMessageRequest(message_id=ID),
    "EstimateSms": api.EstimateSmsRequest(message=SMS),
}
INVALID = grpc.StatusCode.INVALID_ARGUMENT
SETTINGS = GatewaySettings()
LONGEST_S = 2.0  # a busy machine needs most of it; without the bounds it was 20 to 60 s

BAD_TIMES = [
    {"nanos": -1},
    {"nanos": 1_000_000_000},
    {"nanos": 2**31 - 1},
    {"nanos": -(2**31)},
    {"seconds": 2**63 - 1},
    {"seconds": -(2**63)},
    {"seconds": 253_402_300_800},
    {"seconds": -62_135_596_801},
    {"seconds": 2**62, "nanos": 999_999_999},
]
BAD_DURATIONS = [*BAD_TIMES, {"seconds": 60, "nanos": -1}, {"seconds": -60, "nanos": 1}]


def fields_of(kind: Descriptor, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every field of a request and of the messages in it, as (path, field)."""
    for field in kind.fields:
        yield (*path, field.name), field
        inner = field.message_type
        if inner is not None and inner.file.package == "sms.gateway.v1" and not inner.GetOptions().map_entry:
            yield from fields_of(inner, (*path, field.name))


FIELDS = [(name, path, field) for name, one in METHODS.items() for path, field in fields_of(one.input_type)]
STAMPS = {"google.protobuf.Timestamp": BAD_TIMES, "google.protobuf.Duration": BAD_DURATIONS}
BAD_STAMPS = [
    (name, path, value)
    for name, path, field in FIELDS
    if field.message_type is not None
    for value in STAMPS.get(field.message_type.full_name, ())
]
REPEATED = [(name, path, field) for name, path, field in FIELDS if field.is_repeated]
TEXTS = [(name, path) for name, path, field in FIELDS if field.type == field.TYPE_STRING and not field.is_repeated]


def place_of(name: str, path: tuple[str, ...]) -> tuple[Message, Any]:
    """A good request of a method, and the message in it that has the last field of the path."""
    request: Any = type(GOOD[name])()
    request.CopyFrom(GOOD[name])
    place = request
    for part in path[:-1]:
        inner = getattr(place, part)
        place = inner if isinstance(inner, Message) else inner[0]
    return request, place


@attrs.frozen
class Answer:
    """The status of a call or of its first result, the size of its trailers, and how long it took."""

    code: grpc.StatusCode
    violations: list[tuple[str, str]]
    trailers: int
    seconds: float
    text: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    async with serving(SETTINGS) as gateway, connected(gateway) as one:
        yield one


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[Any]]:
    capture, before = LogCapture(), structlog.get_config()
    structlog.configure(processors=[capture], cache_logger_on_first_use=False)
    yield capture.entries
    structlog.configure(**before)


async def call(channel: grpc.aio.Channel, name: str, raw: bytes) -> Answer:
    """Send bytes to a method."""
    method = METHODS[name]
    path = f"/{SERVICE.full_name}/{name}"
    began = time.monotonic()
    decode: Any = GetMessageClass(method.output_type).FromString
    answers: list[Any] = []
    if method.client_streaming:
        one: Any = cast("Any", channel.stream_stream(path, response_deserializer=decode))(iter([raw]), timeout=30)
    elif method.server_streaming:
        one = cast("Any", channel.unary_stream(path, response_deserializer=decode))(raw, timeout=30)
    else:
        one = cast("Any", channel.unary_unary(path, response_deserializer=decode))(raw, timeout=30)
    try:
        answers = [answer async for answer in one] if method.server_streaming else [await one]
    except grpc.aio.AioRpcError as refused:
        code, trailers = refused.code(), refused.trailing_metadata() or ()
        status = status_pb2.Status.FromString(dict(trailers).get("grpc-status-details-bin", b""))
        size = sum(len(key) + len(value) for key, value in trailers) + len(refused.details() or "")
    else:
        code, status, size = grpc.StatusCode.OK, status_pb2.Status(), 0
        if answers and method.client_streaming and answers[0].results:
            status = answers[0].results[0].error
            code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
            size = status.ByteSize()
    bad = details.BadRequest()
    for detail in status.details:
        detail.Unpack(bad)
    violations = [(violation.field, violation.description) for violation in bad.field_violations]
    return Answer(code, violations, size, time.monotonic() - began, status.message)


async def assert_refused(answer: Answer, lines: list[Any], field: str | None = None) -> None:
    async with asyncio.timeout(10):
        while not lines:  # it is written after the answer
            await asyncio.sleep(0)
    assert answer.code is INVALID, answer
    assert 1 <= len(answer.violations) <= 20
    assert answer.trailers < 7000
    assert answer.seconds < LONGEST_S
    if field is not None:
        assert [name for name, _ in answer.violations] == [field], "and nothing of its contents"
    assert [line["event"] for line in lines] == ["call"], "one line"
    assert not [line for line in lines if line.get("exc_info")]


def field_of(name: str, path: tuple[str, ...]) -> str:
    """How a violation names a field; in a chunk it is named as in SendSms."""
    return ".".join(path[1:] if name == "BatchSend" and len(path) > 1 else path)


def test_every_method_and_a_good_request_of_it_is_known_here() -> None:
    assert set(METHODS) == set(GOOD)
    assert {name for name, *_ in REPEATED} == {"SendSms", "BatchSend", "ListMessages", "EstimateSms"}
    assert {name for name, *_ in BAD_STAMPS} == {"SendSms", "BatchSend", "ListMessages", "EstimateSms"}


@pytest.mark.parametrize("name", METHODS)
async def test_a_good_request_is_not_refused_as_invalid(channel: grpc.aio.Channel, name: str) -> None:
    assert (await call(channel, name, GOOD[name].SerializeToString())).code in {
        grpc.StatusCode.OK,
        grpc.StatusCode.NOT_FOUND,
    }


NO_UTF8 = b"\x12\x02\xff\xfe"
GARBAGE = [b"\xff", b"\x12", b"\x12\xff\xff\xff\xff\x0f", b"\x00", b"\x13", NO_UTF8, b"\xff" * 1000]


@pytest.mark.parametrize("raw", GARBAGE, ids=lambda raw: raw[:6].hex())
@pytest.mark.parametrize("name", METHODS)
async def test_undecodable_bytes_are_an_invalid_argument(
    channel: grpc.aio.Channel, lines: list[Any], name: str, raw: bytes
) -> None:
    if raw == NO_UTF8 and name in {"WatchStatus", "EstimateSms"}:
        raw = b"\x0a" + raw[1:]  # they have no second field
    answer = await call(channel, name, raw)
    await assert_refused(answer, lines)
    assert "cannot be parsed" in answer.violations[0][1]


async def test_undecodable_message_of_a_chunk_sinks_no_other(channel: grpc.aio.Channel) -> None:
    good = SMS.SerializeToString()
    raw = b"".join(b"\x12" + bytes([len(one)]) + one for one in (good, b"\x0a\x02\xff\xfe", b"\xff", good))
    sent: Any = channel.stream_stream(
        "/sms.gateway.v1.SmsGatewayService/BatchSend", response_deserializer=api.BatchSendResponse.FromString
    )
    (answer,) = [one async for one in sent(iter([b"\x08\x07" + raw]), timeout=30)]
    assert answer.sequence == 7
    assert [one.error.code for one in answer.results] == [0, INVALID.value[0], INVALID.value[0], 0]


@pytest.mark.parametrize(("name", "path", "value"), BAD_STAMPS, ids=str)
async def test_a_time_that_is_none_is_an_invalid_argument(
    channel: grpc.aio.Channel, lines: list[Any], name: str, path: tuple[str, ...], value: dict[str, int]
) -> None:
    request, place = place_of(name, path)
    field = place.DESCRIPTOR.fields_by_name[path[-1]]
    kind = {"Timestamp": Timestamp, "Duration": Duration}[field.message_type.name]
    getattr(place, path[-1]).CopyFrom(kind(**value))
    await assert_refused(await call(channel, name, request.SerializeToString()), lines, field_of(name, path))


def many(field: Any, count: int) -> bytes:
    """Encode so many elements of a repeated field, each of them wrong."""
    tag = bytes([field.number << 3 | 2])
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return b"".join(tag + b"\x09\x0a\x07" + f"{number:07x}".encode() for number in range(count))
    if field.type == field.TYPE_ENUM:
        return b"".join(bytes([field.number << 3, 0x7F]) for _ in range(count))
    return (tag + b"\x00") * count


@pytest.mark.parametrize(("name", "path", "field"), REPEATED, ids=lambda value: str(getattr(value, "name", value)))
async def test_too_many_elements_are_refused_for_their_count_alone(
    channel: grpc.aio.Channel, lines: list[Any], name: str, path: tuple[str, ...], field: Any
) -> None:
    limit = SETTINGS.chunk_max_bytes if name == "BatchSend" else SETTINGS.request_max_bytes
    if len(path) > 1 and name == "BatchSend":
        limit = MAX_MESSAGE_BYTES
    count = (limit - 100) // len(many(field, 1))
    raw = many(field, count)
    if len(path) > 1:  # in the message in it: as its first field, so that the good one's are merged into it
        request, place = place_of(name, path)
        outer = request.DESCRIPTOR.fields_by_name[path[0]].number
        raw = place.SerializeToString() + raw
        size = bytes([len(raw) & 0x7F | 0x80, len(raw) >> 7 & 0x7F | 0x80, len(raw) >> 14])
        raw = bytes([outer << 3 | 2]) + size + raw
    elif path != ("messages",):
        raw = GOOD[name].SerializeToString() + raw
    answer = await call(channel, name, raw)
    await assert_refused(answer, lines, field_of(name, path))


@pytest.mark.parametrize(("name", "path"), TEXTS, ids=str)
async def test_too_long_a_text_is_refused(
    channel: grpc.aio.Channel, lines: list[Any], name: str, path: tuple[str, ...]
) -> None:
    for char in ("a", "0", "\0", "é", "👋"):
        lines.clear()
        request, place = place_of(name, path)
        setattr(place, path[-1], char * (60_000 // len(char.encode())))
        await assert_refused(await call(channel, name, request.SerializeToString()), lines, field_of(name, path))


@pytest.mark.parametrize("name", METHODS)
async def test_a_request_that_is_too_long_is_refused_with_the_cure(
    channel: grpc.aio.Channel, lines: list[Any], name: str
) -> None:
    longest = SETTINGS.chunk_max_bytes if name == "BatchSend" else SETTINGS.request_max_bytes
    answer = await call(channel, name, b"\x7a\x00" * (longest // 2) + b"\x7a\x00")
    await assert_refused(answer, lines, "request")
    assert f"at most {longest} are read: s" in answer.text


async def test_no_key_of_a_label_is_repeated(channel: grpc.aio.Channel) -> None:
    for labels in (
        {"Secret!": "x"},
        {"a" * 60: "s" * 300},
        {"secret" * 20: "\0"},
        {f"Secret{n}": "" for n in range(17)},
    ):
        request = api.SendSmsRequest(recipient="+233201234567", body="hello", labels=labels)
        answer = await call(channel, "SendSms", request.SerializeToString())
        assert answer.code is INVALID
        assert not [key for key in labels if key in str(answer)]


LIBRARIES = {
    "/grpc.health.v1.Health/Check": (False, False),
    "/grpc.health.v1.Health/List": (False, False),
    "/grpc.health.v1.Health/Watch": (False, True),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (True, True),
}
"""The methods of grpc's own services, and which sides of them are streams."""


@pytest.mark.parametrize("raw", [*GARBAGE[:4], b"\x7a\x00" * 500_000], ids=lambda raw: raw[:6].hex())
@pytest.mark.parametrize("path", LIBRARIES)
async def test_health_and_reflection_refuse_garbage_as_the_others_do(
    channel: grpc.aio.Channel, lines: list[Any], path: str, raw: bytes
) -> None:
    sent, answered = LIBRARIES[path]
    method: Any = (
        channel.stream_stream(path) if sent else channel.unary_stream(path) if answered else channel.unary_unary(path)
    )
    one = method(iter([raw]) if sent else raw, timeout=30)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (anext(aiter(one)) if answered else one)
    assert refused.value.code() is INVALID
    async with asyncio.timeout(10):
        while not lines:
            await asyncio.sleep(0)
    assert [(line["event"], line["code"]) for line in lines] == [("call", "INVALID_ARGUMENT")]


async def test_every_method_that_is_served_is_tried_here(channel: grpc.aio.Channel) -> None:
    """The server's own list, by reflection."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", channel))
    listed = [
        one async for one in stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    ]
    served = {one.name for one in listed[0].list_services_response.service}
    assert served == {SERVICE.full_name, *(path.split("/")[1] for path in LIBRARIES)}


async def test_health_answers_and_is_watched(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="live")
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    assert (await stub.Watch(request).read()).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
