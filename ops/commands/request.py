"""Makes a SendSmsRequest from command-line options or a file's row; the gateway validates it. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec

PRIORITIES: Mapping[str, pb.Priority.ValueType] = {
    "": pb.PRIORITY_UNSPECIFIED,
    "otp": pb.PRIORITY_OTP,
    "normal": pb.PRIORITY_NORMAL,
    "bulk": pb.PRIORITY_BULK,
}
_UNITS: Mapping[str, float] = {
    **dict.fromkeys(("s", "sec"), 1),
    **dict.fromkeys(("m", "min"), 60),
    "h": 3600,
    "d": 86400,
}
_SECONDS = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(sec|s|min|m|h|d)", re.IGNORECASE | re.ASCII)
_SPANS = re.compile(rf"(?:{_SPAN.pattern}\s*)+", re.IGNORECASE | re.ASCII)
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"", "false", "no", "0"})


class BadField(ValueError):
    """One value cannot be read; `reason` says what form it must have and never repeats it."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field} {reason}")


def read_time(field: str, text: str, now: float | None) -> Timestamp:
    """Read RFC 3339, or +SECONDS from `now` (None: not allowed); raises BadField."""
    if text.startswith("+") and now is not None:
        return codec.timestamp(now + read_seconds(field, text[1:]))
    cure = "must be RFC 3339 such as 2026-11-18T12:00:00Z" + (", or +SECONDS" if now is not None else "")
    try:
        found = datetime.fromisoformat(text)
        seconds = found.astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as exc:
        raise BadField(field, cure) from exc
    if found.tzinfo is None:
        raise BadField(field, f"{cure}: its time zone is missing")
    return codec.timestamp(seconds)


def read_seconds(field: str, text: str) -> float:
    """Read seconds, or numbers with units such as 90s, 15m, 1h30m or 2d; raises BadField."""
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    elif _SPANS.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit.lower()] for number, unit in _SPAN.findall(text))
    else:
        raise BadField(field, "must be seconds, or a number with a unit, such as 90s, 15m, 1h or 2d")
    if not 0 <= seconds <= 1e9:
        raise BadField(field, "must be seconds, from 0 to 1e9")
    return seconds


def make(
    given: Mapping[str, str], providers: Sequence[str], labels: Mapping[str, str], now: float | None
) -> api.SendSmsRequest:
    """Make the request from texts by field name; raises BadField for a text that its field cannot hold."""
    priority = given.get("priority", "").strip().lower()
    if priority not in PRIORITIES:
        raise BadField("priority", "must be otp, normal or bulk")
    smart = given.get("smart", "").strip().lower()
    if smart not in _TRUE | _FALSE:
        raise BadField("smart", "must be true or false")
    request = api.SendSmsRequest(
        recipient=given.get("recipient", ""),
        body=given.get("body", ""),
        sender=given.get("sender", ""),
        priority=PRIORITIES[priority],
        providers=providers,
        request_id=given.get("request_id", ""),
        client_reference=given.get("reference", ""),
        callback_url=given.get("callback_url", ""),
        labels=labels,
        smart_encoding=smart in _TRUE,
    )
    if ttl := given.get("ttl", "").strip():
        micros = round(read_seconds("ttl", ttl) * 1_000_000)
        request.ttl.seconds, request.ttl.nanos = micros // 1_000_000, micros % 1_000_000 * 1000
    if at := given.get("at", "").strip():
        request.schedule_time.CopyFrom(read_time("at", at, now))
    return request
