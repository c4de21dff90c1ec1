"""Validates requests, and reports all faults of a request together. Pure.

Counts and lengths come before contents: what is too long or too many is refused without being looked at.

`structural` checks the rules of the proto (a test compares it with protovalidate). The rules that a proto cannot
express follow it: whether the number is possible, how many segments there are, whether the provider is configured.
"""

import re
from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Protocol

import attrs
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.numbers import region_of, to_e164
from gateway_grpc.segments import LOOKALIKES, MAX_SEGMENTS, UCS2_PART, Segmentation, segment
from gateway_grpc.spelling import foreign_character
from gateway_grpc.texts import named, sender_fault, text_fault
from gateway_grpc.times import malformed_times
from messaging import codec
from messaging.errors import InvalidRequest
from messaging.model import LANE_OF_PRIORITY, Lane, lane_of

RECIPIENT = re.compile(r"[+]?[0-9 ().-]{3,32}")
SENDER = re.compile(r"([+]?[0-9]{3,15}|[A-Za-z0-9 ._&-]{1,11})?")
E164 = re.compile(r"[+][0-9]{3,15}")
PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{0,255}")
CALLBACK = re.compile(r"(https?://[^\x00-\x20]+)?")
LABEL_KEY = re.compile(r"[a-z0-9_.-]{1,63}")
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

MAX_BODY, MAX_TEXT, MAX_CALLBACK, MAX_PROVIDERS, MAX_LABELS, MAX_CHUNK = 1530, 255, 2048, 10, 16, 1000
MIN_TTL_S, MAX_TTL_S = 5, 259_200
PAST_S, AHEAD_S = 300, 3_024_000
MAX_PAGE, MAX_TOKEN, MAX_STATES = 500, 512, 12
STATES = frozenset(pb.MessageState.values()) - {pb.MESSAGE_STATE_UNSPECIFIED}

DEFAULT_TTL_S: dict[Lane, float] = {Lane.OTP: 600.0, Lane.NORMAL: 86_400.0, Lane.BULK: 86_400.0}

Violation = tuple[str, str]

_EXAMPLE = "such as +233201234567"


@attrs.frozen
class Rules:
    """The settings that validation depends on."""

    providers: Collection[str]
    default_region: str = ""
    strict_numbers: bool = False


@attrs.frozen
class CheckedRequest:
    """A valid request. Times are Unix seconds; `schedule` None means now."""

    request: api.SendSmsRequest
    recipient: str
    segmentation: Segmentation
    lane: Lane
    schedule: float | None
    deadline: float

    @property
    def region(self) -> str:
        """The recipient's region, such as GH; empty when it has none."""
        return region_of(self.recipient)


def check(request: api.SendSmsRequest, rules: Rules, now: float, prefix: str = "") -> CheckedRequest:
    """Validate one message; raises InvalidRequest with all faults, each field's path after `prefix`."""
    faults = structural(request, now)
    wrong = {field for field, _ in faults} if faults else frozenset()
    recipient = ""
    if "recipient" not in wrong:
        recipient, fault = to_e164(request.recipient, rules.default_region, strict=rules.strict_numbers)
        faults += [("recipient", fault)] if fault else []
    if "sender" not in wrong and request.sender and (fault := sender_fault(request.sender)):
        faults.append(("sender", fault))
    segmentation = segment("" if "body" in wrong else request.body, smart=request.smart_encoding)
    if "body" not in wrong and (fault := text_fault(request.body) or _length_fault(segmentation)):
        faults.append(("body", fault))
    for index, name in enumerate(() if "providers" in wrong else request.providers):
        if f"providers[{index}]" not in wrong and name not in rules.providers:
            known = ", ".join(sorted(rules.providers))
            faults.append((f"providers[{index}]", f"is not configured; the providers are {known}"))
    if faults:
        raise InvalidRequest([(prefix + field, text) for field, text in faults])
    lane = lane_of(request.priority)
    schedule = codec.unix(request.schedule_time) if request.HasField("schedule_time") else None
    if schedule is not None and schedule <= now:
        schedule = None
    return CheckedRequest(request, recipient, segmentation, lane, schedule, (schedule or now) + ttl_of(request))


def _length_fault(found: Segmentation) -> str:
    """Say that a text needs too many segments, and which characters make it so long; empty when it does not."""
    if found.segments <= MAX_SEGMENTS:
        return ""
    why = ""
    if found.non_gsm7:
        cure = "smart_encoding can replace them" if all(char in LOOKALIKES for _, char in found.non_gsm7) else ""
        cure = cure or "replace them"
        why = f"; these characters make it UCS-2, with {UCS2_PART} in a segment: {named(found.non_gsm7)}; {cure}, or"
    return f"needs {found.segments} segments, at most {MAX_SEGMENTS} are sent{why or ':'} shorten it"


def ttl_of(request: api.SendSmsRequest) -> float:
    """Return how many seconds the message is worth sending: its ttl, or the default of its priority."""
    if request.HasField("ttl"):
        return request.ttl.seconds + request.ttl.nanos / 1e9
    return DEFAULT_TTL_S[LANE_OF_PRIORITY[request.priority]]


def structural(request: api.SendSmsRequest, now: float) -> list[Violation]:
    """Check the proto's rules; returns (field, fault) of each one that is broken."""
    faults: list[Violation] = []
    if not request.recipient:
        faults.append(("recipient", f"is required: an E.164 number, {_EXAMPLE}"))
    elif not RECIPIENT.fullmatch(request.recipient):
        what = foreign_character(request.recipient) or "is not a phone number"
        faults.append(("recipient", f"{what}; it must be 3 to 32 digits, spaces and ().-, after an optional +"))
    if not request.body:
        faults.append(("body", "is required: the text to send"))
    faults += _text("body", request.body, MAX_BODY)
    if request.sender and not SENDER.fullmatch(request.sender):
        faults.append(("sender", "must be 3 to 15 digits, or up to 11 letters, digits, spaces and ._&-"))
    faults += _times(request, now)
    if request.priority not in LANE_OF_PRIORITY:
        faults.append(("priority", "must be OTP, NORMAL or BULK"))
    if request.providers:
        faults += _providers(request.providers)
    if not REQUEST_ID.fullmatch(request.request_id):
        faults.append(("request_id", "may have up to 255 letters, digits and ._:-"))
    if request.client_reference:
        faults += _text("client_reference", request.client_reference, MAX_TEXT)
    if request.callback_url:
        faults += _callback(request.callback_url)
    return faults + _labels(request.labels) if request.labels else faults


def _callback(url: str) -> list[Violation]:
    if len(url) > MAX_CALLBACK:
        return [("callback_url", f"may have at most {MAX_CALLBACK} characters")]
    return [] if CALLBACK.fullmatch(url) else [("callback_url", "must be an http or https URL")]


def _text(field: str, value: str, longest: int) -> list[Violation]:
    if len(value) > longest:
        return [(field, f"may have at most {longest} characters, this has {len(value)}")]
    return [(field, "must not contain the character U+0000")] if "\0" in value else []


def _times(request: api.SendSmsRequest, now: float) -> list[Violation]:
    has_ttl, has_schedule = request.HasField("ttl"), request.HasField("schedule_time")
    if not has_ttl and not has_schedule:
        return []
    faults = malformed_times(request)
    wrong = [field for field, _ in faults]
    if has_ttl and "ttl" not in wrong:
        nanos = request.ttl.seconds * 1_000_000_000 + request.ttl.nanos
        if not MIN_TTL_S * 1_000_000_000 <= nanos <= MAX_TTL_S * 1_000_000_000:
            faults.append(("ttl", f"must be between {MIN_TTL_S} and {MAX_TTL_S} seconds"))
    if has_schedule and "schedule_time" not in wrong:
        at = codec.unix(request.schedule_time)
        if not now - PAST_S < at < now + AHEAD_S:
            faults.append(("schedule_time", "must be between 5 minutes ago and 35 days ahead"))
    return faults


def _providers(names: Sequence[str]) -> list[Violation]:
    faults: list[Violation] = []
    if len(names) > MAX_PROVIDERS:
        return [("providers", f"may name at most {MAX_PROVIDERS} providers")]
    if len(set(names)) != len(names):
        faults.append(("providers", "must not name a provider twice"))
    return faults + [
        (f"providers[{index}]", "must be 1 to 32 of a-z, 0-9 and -, and not start with -")
        for index, name in enumerate(names)
        if not PROVIDER.fullmatch(name)
    ]


def _labels(labels: Mapping[str, str]) -> list[Violation]:
    """Check labels; no fault names a key, which may be anything."""
    if len(labels) > MAX_LABELS:
        return [("labels", f"may have at most {MAX_LABELS} entries")]
    faults: list[Violation] = []
    if not all(map(LABEL_KEY.fullmatch, labels)):
        faults.append(("labels", "must have keys of 1 to 63 of a-z, 0-9 and _.-"))
    for value in labels.values():
        if wrong := _text("labels", value, MAX_TEXT):
            faults.append(("labels", f"has a value that {wrong[0][1]}"))
            break
    return faults


class SomeMessages(Protocol):
    """A chunk, as far as its size is concerned."""

    @property
    def messages(self) -> Sized:
        """Its messages."""


def check_chunk(chunk: SomeMessages) -> None:
    """Check a chunk's size; its messages are checked one by one. Raises InvalidRequest."""
    if not 1 <= len(chunk.messages) <= MAX_CHUNK:
        raise InvalidRequest([("messages", f"must have 1 to {MAX_CHUNK} entries: divide them into several chunks")])


def check_key(kind: str | None, value: str) -> None:
    """Check the id of a message: `kind` is the field of the oneof that is set, if any. Raises InvalidRequest."""
    if kind is None:
        raise InvalidRequest([("key", "is required: set message_id or request_id")])
    if kind == "message_id" and not UUID.fullmatch(value):
        raise InvalidRequest([("message_id", "must be a UUID, as SendSms returned it")])
    if kind == "request_id" and not (value and REQUEST_ID.fullmatch(value)):
        raise InvalidRequest([("request_id", "must be 1 to 255 letters, digits and ._:-")])


def check_estimate(request: api.EstimateSmsRequest) -> None:
    """Check that an estimate has a message, which is checked as one to send. Raises InvalidRequest."""
    if not request.HasField("message"):
        raise InvalidRequest([("message", "is required: the message as it would be sent")])


def check_list(request: api.ListMessagesRequest) -> None:
    """Check the filters of a listing; raises InvalidRequest with all faults."""
    wrong_provider = request.provider and not PROVIDER.fullmatch(request.provider)
    checks = (
        ("page_size", request.page_size > MAX_PAGE, f"may be at most {MAX_PAGE}"),
        ("page_token", len(request.page_token) > MAX_TOKEN, "is not a token from ListMessages"),
        ("states", len(request.states) > MAX_STATES, f"may name at most {MAX_STATES} states"),
        ("provider", wrong_provider, "is not a provider name"),
        ("recipient", request.recipient and not E164.fullmatch(request.recipient), "must be E.164"),
        ("client_reference", _text("", request.client_reference, MAX_TEXT), "is too long or contains U+0000"),
    )
    faults = [(field, text) for field, wrong, text in checks if wrong] + malformed_times(request)
    if len(request.states) <= MAX_STATES:
        faults += [(f"states[{i}]", "is not a state") for i, one in enumerate(request.states) if one not in STATES]
    if faults:
        raise InvalidRequest(faults)
