"""Every rule of the proto has its check in validation.py: a rule without a check and a sample here fails."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc import validation
from messaging.errors import InvalidRequest
from tests.oracle import broken_rules, refused_fields

_PAST, _AHEAD = (Timestamp(seconds=int(time.time()) + off) for off in (-310, 36 * 86_400))
_ID = "018bcfe5-6800-7000-8000-000000000000"
_SMS = api.SendSmsRequest(recipient="+233201234567", body="hello")
_LONG = "x" * 256


def _check_message(request: api.SendSmsRequest) -> None:
    if faults := validation.structural(request, time.time()):
        raise InvalidRequest(faults)


def _check_key(request: api.GetStatusRequest | api.CancelMessageRequest) -> None:
    kind = request.WhichOneof("key")
    validation.check_key(kind, getattr(request, kind) if kind else "")


# For each request with rules: one that breaks none, and the function that checks it.
JUDGED: dict[type[Message], tuple[Message, Callable[[Any], None]]] = {
    api.SendSmsRequest: (_SMS, _check_message),
    api.BatchSendRequest: (api.BatchSendRequest(messages=[_SMS]), validation.check_chunk),
    api.GetStatusRequest: (api.GetStatusRequest(message_id=_ID), _check_key),
    api.WatchStatusRequest: (
        api.WatchStatusRequest(message_id=_ID),
        lambda request: validation.check_key("message_id", request.message_id),
    ),
    api.ListMessagesRequest: (api.ListMessagesRequest(), validation.check_list),
    api.CancelMessageRequest: (api.CancelMessageRequest(message_id=_ID), _check_key),
    api.EstimateSmsRequest: (api.EstimateSmsRequest(message=_SMS), validation.check_estimate),
}

# Message, field, rule as tests/oracle.py spells it, and a value of the field (None: unset) that breaks this rule alone.
SAMPLES: list[tuple[type[Message], str, str, Any]] = [
    (api.SendSmsRequest, "recipient", "required", ""),
    (api.SendSmsRequest, "recipient", "string.pattern", "+233-20-CALL-ME"),
    (api.SendSmsRequest, "body", "required", ""),
    (api.SendSmsRequest, "body", "string.max_len", "a" * 1601),
    (api.SendSmsRequest, "body", "string.pattern", "a\0"),
    (api.SendSmsRequest, "sender", "string.pattern", "TWELVE CHARS"),
    (api.SendSmsRequest, "ttl", "duration.gte_lte", Duration(seconds=4, nanos=999_999_999)),
    (api.SendSmsRequest, "ttl", "duration.gte_lte", Duration(seconds=259_200, nanos=1)),
    (api.SendSmsRequest, "schedule_time", "cel(schedule_time.near)", _PAST),
    (api.SendSmsRequest, "schedule_time", "cel(schedule_time.near)", _AHEAD),
    (api.SendSmsRequest, "priority", "enum.defined_only", 4),
    (api.SendSmsRequest, "providers", "repeated.max_items", [f"p{number}" for number in range(11)]),
    (api.SendSmsRequest, "providers", "repeated.unique", ["alpha", "alpha"]),
    (api.SendSmsRequest, "providers", "repeated.items.string.pattern", ["alpha", "Beta"]),
    (api.SendSmsRequest, "request_id", "string.pattern", "order 7"),
    (api.SendSmsRequest, "client_reference", "string.max_len", _LONG),
    (api.SendSmsRequest, "client_reference", "string.pattern", "a\0"),
    (api.SendSmsRequest, "callback_url", "string.max_len", "https://" + "h" * 2041),
    (api.SendSmsRequest, "callback_url", "string.pattern", "ftp://host"),
    (api.SendSmsRequest, "labels", "map.max_pairs", {f"k{number}": "" for number in range(17)}),
    (api.SendSmsRequest, "labels", "map.keys.string.pattern", {"Team": ""}),
    (api.SendSmsRequest, "labels", "map.values.string.max_len", {"team": _LONG}),
    (api.SendSmsRequest, "labels", "map.values.string.pattern", {"team": "a\0"}),
    (api.BatchSendRequest, "messages", "repeated.min_items", []),
    (api.BatchSendRequest, "messages", "repeated.max_items", [_SMS] * 1001),
    (api.GetStatusRequest, "message_id", "string.uuid", "order-7"),
    (api.GetStatusRequest, "request_id", "string.pattern", ""),
    (api.GetStatusRequest, "key", "required", None),
    (api.WatchStatusRequest, "message_id", "string.uuid", "order-7"),
    (api.ListMessagesRequest, "page_size", "uint32.lte", 501),
    (api.ListMessagesRequest, "page_token", "string.max_len", "x" * 513),
    (api.ListMessagesRequest, "states", "repeated.max_items", [pb.MESSAGE_STATE_SENT] * 13),
    (api.ListMessagesRequest, "states", "repeated.items.enum.defined_only", [pb.MESSAGE_STATE_SENT, 13]),
    (api.ListMessagesRequest, "states", "repeated.items.enum.not_in", [pb.MESSAGE_STATE_UNSPECIFIED]),
    (api.ListMessagesRequest, "provider", "string.pattern", "Alpha"),
    (api.ListMessagesRequest, "recipient", "string.pattern", "0201234567"),
    (api.ListMessagesRequest, "client_reference", "string.max_len", _LONG),
    (api.ListMessagesRequest, "client_reference", "string.pattern", "a\0"),
    (api.CancelMessageRequest, "message_id", "string.uuid", "order-7"),
    (api.CancelMessageRequest, "request_id", "string.pattern", ""),
    (api.CancelMessageRequest, "key", "required", None),
    (api.EstimateSmsRequest, "message", "required", None),
]

# Settings within the rules that are not rules themselves: they say when a rule applies, or give an example.
_NO_RULES = frozenset({"ignore", "strict", "example"})


def rules_of(kind: Descriptor) -> Iterator[tuple[str, str, str]]:
    """Return each rule of a message, its fields, its oneofs and the messages declared in it."""
    places = [
        ("", kind, validate_pb2.message),
        *((field.name, field, validate_pb2.field) for field in kind.fields),
        *((oneof.name, oneof, validate_pb2.oneof) for oneof in kind.oneofs),
    ]
    for name, declared, option in places:
        rules = declared.GetOptions().Extensions[option]
        yield from ((kind.name, name, rule) for rule in spelled(rules))
    for nested in kind.nested_types:
        yield from rules_of(nested)


def spelled(rules: Message) -> Iterator[str]:
    """Spell each rule that is set as tests/oracle.py does."""
    there = {field.name: value for field, value in rules.ListFields()}
    lower, upper = ([name for name in pair if name in there] for pair in (("gt", "gte"), ("lt", "lte")))
    if lower and upper:
        yield f"{lower[0]}_{upper[0]}"
        there = {name: value for name, value in there.items() if name not in {*lower, *upper}}
    for name, value in there.items():
        if name in _NO_RULES or value is False:
            continue
        if name == "cel":
            yield from (f"cel({rule.id})" for rule in value)
        elif name == "cel_expression":
            yield from (f"cel({expression})" for expression in value)
        elif isinstance(value, Message) and value.DESCRIPTOR.file.package == "buf.validate":
            yield from (f"{name}.{rule}" for rule in spelled(value))
        else:
            yield name


RULES = {
    rule
    for file in (api.DESCRIPTOR, pb.DESCRIPTOR)
    for kind in file.message_types_by_name.values()
    for rule in rules_of(kind)
}


def _listed(rules: Sequence[tuple[str, str, str]]) -> str:
    return "; ".join(f"{message}.{field}: {rule}" for message, field, rule in rules)


def test_every_rule_of_the_proto_has_its_check_and_its_sample() -> None:
    sampled = {(kind.DESCRIPTOR.name, field, rule) for kind, field, rule, _ in SAMPLES}
    unknown, gone = sorted(RULES - sampled), sorted(sampled - RULES)
    assert not unknown, (
        f"new in the proto: {_listed(unknown)}. Check it in gateway_grpc/validation.py, and sample it here."
    )
    assert not gone, f"not in the proto: {_listed(gone)}. Remove its sample here and its check in validation.py."


@pytest.mark.parametrize("kind", JUDGED, ids=lambda kind: kind.DESCRIPTOR.name)
def test_request_that_breaks_no_rule_is_not_refused(kind: type[Message]) -> None:
    good, judge = JUDGED[kind]
    assert broken_rules(good) == []
    assert refused_fields(lambda: judge(good)) == []


@pytest.mark.parametrize(
    ("kind", "field", "rule", "value"),
    SAMPLES,
    ids=[f"{kind.DESCRIPTOR.name}.{field}: {rule}" for kind, field, rule, _ in SAMPLES],
)
def test_a_request_that_breaks_one_rule_is_refused_for_that_field(
    kind: type[Message], field: str, rule: str, value: Any
) -> None:
    good, judge = JUDGED[kind]
    request = kind()
    request.CopyFrom(good)
    request.ClearField(field)
    if value is not None:
        request.MergeFrom(kind(**{field: value}))
    broken = broken_rules(request)
    assert [(path.partition("[")[0], name) for path, name in broken] == [(field, rule)], "it breaks its own rule alone"
    assert refused_fields(lambda: judge(request)) == [path for path, _ in broken]
