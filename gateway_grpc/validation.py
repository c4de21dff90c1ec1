"""What a request must look like. Pure; every fault is found at once.

`structural` judges as the rules in the proto do (a test compares them with protovalidate as the oracle); what the proto
cannot say (is the number possible, how many segments, is the provider configured) comes after.
"""

import re
from collections.abc import Collection

import attrs
import phonenumbers
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.numbers import plainly_possible, region_of
from gateway_grpc.segments import MAX_SEGMENTS, Measure, measure
from messaging import codec
from messaging.errors import InvalidRequest
from messaging.model import LANE_OF_PRIORITY, Lane

RECIPIENT = re.compile(r"[+]?[0-9 ().-]{3,32}")
SENDER = re.compile(r"([+]?[0-9]{3,15}|[A-Za-z0-9 ._&-]{1,11})?")
E164 = re.compile(r"[+][0-9]{3,15}")
PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{0,255}")
CALLBACK = re.compile(r"(https?://[^\x00-\x20]+)?")
LABEL_KEY = re.compile(r"[a-z0-9_.-]{1,63}")
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

MAX_BODY, MAX_TEXT, MAX_CALLBACK, MAX_PROVIDERS, MAX_LABELS, MAX_CHUNK = 1600, 255, 2048, 10, 16, 1000
MIN_TTL_S, MAX_TTL_S = 5, 259_200
PAST_S, AHEAD_S = 300, 3_024_000
MAX_PAGE, MAX_TOKEN, MAX_STATES = 500, 512, 12
STATES = frozenset(pb.MessageState.values()) - {pb.MESSAGE_STATE_UNSPECIFIED}

DEFAULT_TTL_S: dict[Lane, float] = {Lane.OTP: 600.0, Lane.NORMAL: 86_400.0, Lane.BULK: 86_400.0}

Violation = tuple[str, str]

_EXAMPLE, _REGION = "such as +233201234567", "such as GH"


@attrs.frozen
class Rules:
    """What the gateway knows beyond the proto."""

    providers: Collection[str]
    default_region: str = ""
    strict_numbers: bool = False


@attrs.frozen
class Checked:
    """A request that may be accepted. Times are Unix seconds; `schedule` None means now."""

    request: api.SendSmsRequest
    recipient: str
    measure: Measure
    lane: Lane
    schedule: float | None
    deadline: float

    @property
    def region(self) -> str:
        """The recipient's region."""
        return region_of(self.recipient)


def check(request: api.SendSmsRequest, rules: Rules, now: float, prefix: str = "") -> Checked:
    """Judge one message; raises InvalidRequest with every fault, each field's path behind `prefix`."""
    faults = structural(request, now)
    wrong = {field for field, _ in faults} if faults else frozenset()
    recipient = ""
    if "recipient" not in wrong:
        recipient, fault = normalise(request.recipient, rules)
        faults += [("recipient", fault)] if fault else []
    measured = measure(request.body, smart=request.smart_encoding)
    if "body" not in wrong and measured.segments > MAX_SEGMENTS:
        faults.append(("body", f"needs {measured.segments} segments, at most {MAX_SEGMENTS} are sent: shorten it"))
    for index, name in enumerate(request.providers):
        if "providers" not in wrong and f"providers[{index}]" not in wrong and name not in rules.providers:
            known = ", ".join(sorted(rules.providers))
            faults.append((f"providers[{index}]", f"is not configured here; there are {known}"))
    if faults:
        raise InvalidRequest([(prefix + field, text) for field, text in faults])
    lane = LANE_OF_PRIORITY[request.priority]
    schedule = codec.unix(request.schedule_time) if request.HasField("schedule_time") else None
    if schedule is not None and schedule <= now:
        schedule = None
    ttl = request.ttl.seconds + request.ttl.nanos / 1e9 if request.HasField("ttl") else DEFAULT_TTL_S[lane]
    return Checked(request, recipient, measured, lane, schedule, (schedule or now) + ttl)


def structural(request: api.SendSmsRequest, now: float) -> list[Violation]:
    """Judge what the proto's rules judge."""
    faults: list[Violation] = []
    if not request.recipient:
        faults.append(("recipient", f"is required: an E.164 number, {_EXAMPLE}"))
    elif not RECIPIENT.fullmatch(request.recipient):
        faults.append(
            (
                "recipient",
                f"is no phone number: it needs 3 to 32 digits, spaces and ().-, after an optional +, {_EXAMPLE}",
            )
        )
    if not request.body:
        faults.append(("body", "is required: the text to send"))
    faults += _text("body", request.body, MAX_BODY)
    if request.sender and not SENDER.fullmatch(request.sender):
        faults.append(("sender", "must be 3 to 15 digits or up to 11 of letters, digits, space and ._&-"))
    faults += _times(request, now)
    if request.priority not in LANE_OF_PRIORITY:
        faults.append(("priority", "must be OTP, NORMAL or BULK"))
    if request.providers:
        faults += _providers(list(request.providers))
    if not REQUEST_ID.fullmatch(request.request_id):
        faults.append(("request_id", "may hold up to 255 of letters, digits and ._:-"))
    if request.client_reference:
        faults += _text("client_reference", request.client_reference, MAX_TEXT)
    if request.callback_url:
        faults += _callback(request.callback_url)
    return faults + _labels(dict(request.labels)) if request.labels else faults


def _callback(url: str) -> list[Violation]:
    faults = []
    if not CALLBACK.fullmatch(url):
        faults.append(("callback_url", "must be an http or https URL"))
    if len(url) > MAX_CALLBACK:
        faults.append(("callback_url", f"may hold {MAX_CALLBACK} characters at most"))
    return faults


def _text(field: str, value: str, longest: int) -> list[Violation]:
    faults = []
    if len(value) > longest:
        faults.append((field, f"may hold {longest} characters at most, this has {len(value)}"))
    if "\0" in value:
        faults.append((field, "must not hold the character U+0000"))
    return faults


def _times(request: api.SendSmsRequest, now: float) -> list[Violation]:
    faults = []
    if request.HasField("ttl"):
        nanos = request.ttl.seconds * 1_000_000_000 + request.ttl.nanos
        if not MIN_TTL_S * 1_000_000_000 <= nanos <= MAX_TTL_S * 1_000_000_000:
            faults.append(("ttl", f"must lie between {MIN_TTL_S} and {MAX_TTL_S} seconds"))
    if request.HasField("schedule_time"):
        at = codec.unix(request.schedule_time)
        if not now - PAST_S < at < now + AHEAD_S:
            faults.append(("schedule_time", "must lie between 5 minutes ago and 35 days ahead"))
    return faults


def _providers(names: list[str]) -> list[Violation]:
    faults: list[Violation] = []
    if len(names) > MAX_PROVIDERS:
        faults.append(("providers", f"may name {MAX_PROVIDERS} at most"))
    if len(set(names)) != len(names):
        faults.append(("providers", "must not name one twice"))
    return faults + [
        (f"providers[{index}]", "may hold up to 32 of a-z, 0-9 and -")
        for index, name in enumerate(names)
        if not PROVIDER.fullmatch(name)
    ]


def _labels(labels: dict[str, str]) -> list[Violation]:
    faults: list[Violation] = []
    if len(labels) > MAX_LABELS:
        faults.append(("labels", f"may hold {MAX_LABELS} at most"))
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            faults.append((f'labels["{key[:63]}"]', "must have a key of 1 to 63 of a-z, 0-9 and _.-"))
        faults += _text(f'labels["{key[:63]}"]', value, MAX_TEXT)
    return faults


def normalise(number: str, rules: Rules) -> tuple[str, str]:
    """Bring a number to E.164: (number, what is wrong)."""
    if not rules.strict_numbers and plainly_possible(number):
        return number, ""
    try:
        parsed = phonenumbers.parse(number, rules.default_region or None)
    except phonenumbers.NumberParseException:
        national = not (rules.default_region or number.startswith("+"))
        cure = f"; national numbers need SMSGW_DEFAULT_REGION at the gateway, {_REGION}" if national else ""
        return "", f"is no phone number: write it in E.164, {_EXAMPLE}{cure}"
    if not phonenumbers.is_possible_number(parsed):
        return "", f"has too few or too many digits for its country: write it in E.164, {_EXAMPLE}"
    if rules.strict_numbers and not phonenumbers.is_valid_number(parsed):
        return "", "is not a number that its country has assigned"
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164), ""


def check_chunk(request: api.BatchSendRequest) -> None:
    """Judge the frame of a chunk; its messages are judged one by one."""
    if not 1 <= len(request.messages) <= MAX_CHUNK:
        raise InvalidRequest([("messages", f"must hold 1 to {MAX_CHUNK} messages, this has {len(request.messages)}")])


def check_key(kind: str | None, value: str) -> None:
    """Judge the name of a message: `kind` is the field of the oneof that is set, if any."""
    if kind is None:
        raise InvalidRequest([("key", "is required: set message_id or request_id")])
    if kind == "message_id" and not UUID.fullmatch(value):
        raise InvalidRequest([("message_id", "must be a UUID, as SendSms answered it")])
    if kind == "request_id" and not (value and REQUEST_ID.fullmatch(value)):
        raise InvalidRequest([("request_id", "must be 1 to 255 of letters, digits and ._:-")])


def check_estimate(request: api.EstimateSmsRequest) -> None:
    """Judge the frame of an estimate; its message is judged as one to send."""
    if not request.HasField("message"):
        raise InvalidRequest([("message", "is required: the message as it would be sent")])


def check_list(request: api.ListMessagesRequest) -> None:
    """Judge the filters of a listing."""
    wrong_provider = request.provider and not PROVIDER.fullmatch(request.provider)
    judged = (
        ("page_size", request.page_size > MAX_PAGE, f"may be {MAX_PAGE} at most"),
        ("page_token", len(request.page_token) > MAX_TOKEN, "is not one that ListMessages answered"),
        ("states", len(request.states) > MAX_STATES, f"may name {MAX_STATES} at most"),
        ("provider", wrong_provider, "is no provider's name"),
        ("recipient", request.recipient and not E164.fullmatch(request.recipient), "must be E.164"),
        ("client_reference", _text("", request.client_reference, MAX_TEXT), "is too long or holds U+0000"),
    )
    faults = [(field, text) for field, wrong, text in judged if wrong]
    faults += [(f"states[{i}]", "is no state") for i, state in enumerate(request.states) if state not in STATES]
    if faults:
        raise InvalidRequest(faults)
