"""Every field goes from the request to the command and to what callers see, or is listed here as left out.

The fields are read from the descriptors: a field that is added to the proto fails here until it is listed.
"""

from collections.abc import Collection
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.acceptance import _fill, _response
from gateway_grpc.repeats import fingerprint
from gateway_grpc.validation import Rules, check
from messaging.model import Address
from messaging.routing import Choice
from messaging.status import status_of
from tests.descriptors import changed, differing, fields_of, filled

# What is left out on purpose, and why.
LEFT_OUT: dict[type[Message], dict[str, str]] = {
    api.SendSmsRequest: {},
    wire.Command: {"traceparent": "`accept` writes it: the span of the publish begins when the command is made"},
    api.SendSmsResponse: {
        "replayed": "true of a repeat only: `_replay` sets it",
        "replacements": "they follow from the request, whose text is not kept",
    },
    pb.MessageStatus: {},
}

NOW = 1_700_000_000.0
REQUEST = api.SendSmsRequest(
    recipient="+233201234567",
    body="“hello”",
    sender="ACME",
    ttl=Duration(seconds=60),
    schedule_time=Timestamp(seconds=int(NOW) + 3600),
    priority=pb.PRIORITY_NORMAL,
    providers=["alpha", "beta"],
    request_id="order-7",
    client_reference="mine",
    callback_url="https://example.com/hook",
    labels={"team": "x"},
)

# For each field of a request: another value, and the fields of the command that it changes.
TRAVELS: dict[str, tuple[Any, set[str]]] = {
    "recipient": ("+233201234568", {"recipient"}),
    "body": ("“other”", {"body"}),
    "sender": ("OTHER", {"sender"}),
    "ttl": (Duration(seconds=61), {"deadline"}),
    "schedule_time": (Timestamp(seconds=int(NOW) + 7200), {"schedule_time", "deadline"}),
    "priority": (pb.PRIORITY_OTP, {"priority"}),
    "providers": (["beta", "alpha"], {"providers"}),
    "request_id": ("order-8", {"request_id"}),
    "client_reference": ("yours", {"client_reference"}),
    "callback_url": ("https://example.com/other", {"callback_url"}),
    "labels": ({"team": "y"}, {"labels"}),
    "smart_encoding": (True, {"body", "encoding"}),
}

# For each field of a response or a status: a field of the command or of the last event that it follows.
RESPONSE_FROM_COMMAND: list[tuple[str, str]] = [
    ("message_id", "message_id"),
    ("state", "schedule_time"),
    ("provider", "provider"),
    ("encoding", "encoding"),
    ("segments", "segments"),
    ("recipient", "recipient"),
    ("accept_time", "accept_time"),
    ("deadline", "deadline"),
]
STATUS_FROM_COMMAND: list[tuple[str, str]] = [
    ("message_id", "message_id"),
    ("request_id", "request_id"),
    ("client_reference", "client_reference"),
    ("state", "schedule_time"),
    ("provider", "provider"),
    ("recipient", "recipient"),
    ("sender", "sender"),
    ("encoding", "encoding"),
    ("segments", "segments"),
    ("priority", "priority"),
    ("accept_time", "accept_time"),
    ("schedule_time", "schedule_time"),
    ("deadline", "deadline"),
    ("update_time", "accept_time"),
    ("labels", "labels"),
    ("trace_id", "traceparent"),
    ("route_reason", "route_reason"),
]
STATUS_FROM_EVENT: list[tuple[str, str]] = [
    ("message_id", "message_id"),
    ("state", "state"),
    ("final", "state"),
    ("provider", "provider"),
    ("provider_message_id", "attempts"),
    ("deadline", "deadline"),
    ("update_time", "time"),
    ("next_attempt_time", "due_time"),
    ("error", "reason"),
    ("error", "detail"),
    ("attempts", "attempts"),
]


def command_of(request: api.SendSmsRequest) -> wire.Command:
    """Make the command of a request as `accept` does."""
    command = wire.Command()
    checked = check(request, Rules(("alpha", "beta")), NOW)
    _fill(command, checked, Address("default", "7" * 20, "0" * 12), Choice("alpha", "it is the cheapest"), NOW)
    return command


def accepted() -> wire.Command:
    command = filled(wire.Command)
    command.accept_time.seconds = command.schedule_time.seconds + 500  # another schedule_time is after it
    command.traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    return command


def last_event() -> wire.Event:
    event = filled(wire.Event)
    event.state = pb.MESSAGE_STATE_DELIVERED
    event.next = wire.NEXT_STEP_LATER
    return event


def unlisted(kind: type[Message], listed: Collection[str]) -> list[str]:
    """Name the fields that are not listed, and the names that are no field or are listed twice."""
    named = [*listed, *LEFT_OUT[kind]]
    return sorted({*fields_of(kind)} ^ {*named} | {name for name in named if named.count(name) > 1})


def test_every_field_of_a_request_reaches_the_command_or_is_left_out_on_purpose() -> None:
    fields = unlisted(api.SendSmsRequest, TRAVELS)
    assert not fields, (
        f"SendSmsRequest: {fields}. Write it in gateway_grpc/acceptance.py `_fill` and list in TRAVELS which field of "
        f"Command it changes; or say in LEFT_OUT why it is left out."
    )


@pytest.mark.parametrize("field", TRAVELS)
def test_field_of_a_request_changes_its_fields_of_the_command_and_no_others(field: str) -> None:
    value, carriers = TRAVELS[field]
    other = api.SendSmsRequest()
    other.CopyFrom(REQUEST)
    other.ClearField(field)  # type: ignore[arg-type]
    other.MergeFrom(api.SendSmsRequest(**{field: value}))
    assert differing(command_of(REQUEST), command_of(other)) - {"fingerprint"} == carriers


@pytest.mark.parametrize("field", fields_of(api.SendSmsRequest))
def test_another_value_in_any_field_is_another_request_under_the_same_request_id(field: str) -> None:
    request = filled(api.SendSmsRequest)
    assert fingerprint(changed(request, field)) != fingerprint(request)


def test_every_field_of_a_command_is_written_or_left_out_on_purpose() -> None:
    fields = unlisted(wire.Command, [field.name for field, _ in command_of(REQUEST).ListFields()])
    assert not fields, (
        f"Command: {fields}. Write it in gateway_grpc/acceptance.py `_fill` (REQUEST here holds every field that a "
        f"caller may set), or say in LEFT_OUT who writes it."
    )


def test_every_field_of_a_response_is_set_or_left_out_on_purpose() -> None:
    fields = unlisted(api.SendSmsResponse, {target for target, _ in RESPONSE_FROM_COMMAND})
    assert not fields, (
        f"SendSmsResponse: {fields}. Set it in gateway_grpc/acceptance.py `_response` and list its source in "
        f"RESPONSE_FROM_COMMAND; or say in LEFT_OUT why not."
    )


@pytest.mark.parametrize(("target", "source"), RESPONSE_FROM_COMMAND)
def test_field_of_a_response_follows_the_command(target: str, source: str) -> None:
    command = accepted()
    assert target in differing(_response(command), _response(changed(command, source)))


def test_every_field_of_a_status_is_set_or_left_out_on_purpose() -> None:
    fields = unlisted(pb.MessageStatus, {target for target, _ in STATUS_FROM_COMMAND + STATUS_FROM_EVENT})
    assert not fields, (
        f"MessageStatus: {fields}. Set it in messaging/status.py and list it in STATUS_FROM_COMMAND or "
        f"STATUS_FROM_EVENT; or say in LEFT_OUT why not."
    )


@pytest.mark.parametrize(("target", "source"), STATUS_FROM_COMMAND)
def test_field_of_a_status_follows_the_command(target: str, source: str) -> None:
    command = accepted()
    assert target in differing(status_of(command, None), status_of(changed(command, source), None))


@pytest.mark.parametrize(("target", "source"), STATUS_FROM_EVENT)
def test_field_of_a_status_follows_the_last_event(target: str, source: str) -> None:
    command, event = accepted(), last_event()
    assert target in differing(status_of(command, event), status_of(command, changed(event, source)))
