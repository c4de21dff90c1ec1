"""Parses and checks records of the streams, and converts timestamps and W3C trace context. Pure.

A record is checked once, here, so that no reader meets a time outside the calendar, a text without end, or a record of
another message. Priorities, states and steps that only a newer version knows are no faults, and unknown fields stay in
the record.
"""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging.errors import CorruptRecord

_T = TypeVar("_T", bound=Message)

TRACEPARENT = "traceparent"

MAX_RECORD_BYTES = 1_000_000
"""Larger than any record that we write, and smaller than what a nats-server takes by default."""

_MAX_TEXT, _MAX_NAME = 65_536, 4096
_LAST_SECOND = 253_402_300_799  # of the year 9999
_NANOS = 1_000_000_000
_ADDRESS_LENGTH = 33  # key, dot, time


def decode(kind: type[_T], subject: str, data: bytes) -> _T:
    """Parse a record; raises CorruptRecord when the bytes are not a `kind`, or hold what no version would write.

    A `subject` that ends with an address must be that of the message which the record names.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise CorruptRecord(subject, f"it has {len(data)} bytes")
    record = kind()
    try:
        record.ParseFromString(data)
    except DecodeError as exc:
        raise CorruptRecord(subject, f"not a {kind.__name__}") from exc
    match record:
        case wire.Command():
            _check_command(subject, record, kind)
        case wire.Event():
            _check_name(subject, record, kind)
            _check_event_times(subject, record)
        case wire.QueueEntry():
            _check_command(subject, record.command, kind)
            if record.HasField("last"):
                _check_event_times(subject, record.last)
        case wire.DeadLetter():
            _check_letter(subject, record)
    return record


def _check_letter(subject: str, letter: wire.DeadLetter) -> None:
    _check_times(subject, letter.time)
    _check_event_times(subject, letter.last)
    if letter.command.message_id or not letter.unreadable:  # a record that could not be read may name no message
        _check_command(subject, letter.command, wire.DeadLetter)


def _check_command(subject: str, command: wire.Command, kind: type[Message]) -> None:
    _check_name(subject, command, kind)
    _check_times(subject, command.accept_time, command.schedule_time, command.deadline)
    if len(command.body) > _MAX_TEXT or len(command.recipient) > _MAX_NAME or len(command.request_id) > _MAX_NAME:
        raise CorruptRecord(subject, "a text in it is too long")


def _check_event_times(subject: str, event: wire.Event) -> None:
    _check_times(subject, event.time, event.due_time, event.deadline)
    for attempt in event.attempts:
        _check_times(subject, attempt.start_time, attempt.end_time)


def _check_name(subject: str, named: wire.Command | wire.Event, kind: type[Message]) -> None:
    """Check that a record names a message, and the one to which its subject belongs."""
    if not named.message_id:
        raise CorruptRecord(subject, f"a {kind.__name__} without message_id")
    end = subject[-_ADDRESS_LENGTH:]
    if len(end) < _ADDRESS_LENGTH or subject[-_ADDRESS_LENGTH - 1 : -_ADDRESS_LENGTH] != "." or end[20] != ".":
        return
    key, time = end[:20], end[21:]
    if named.message_id != f"{time[:8]}-{time[8:]}-{key[:4]}-{key[4:8]}-{key[8:]}":
        raise CorruptRecord(subject, f"a {kind.__name__} of another message")
    if named.client and not subject[: -_ADDRESS_LENGTH - 1].endswith(f".{named.client}"):
        raise CorruptRecord(subject, f"a {kind.__name__} of another client")


def _check_times(subject: str, *stamps: Timestamp) -> None:
    for stamp in stamps:
        if not (0 <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < _NANOS):
            raise CorruptRecord(subject, "one of its times is outside the calendar")


def timestamp(seconds: float) -> Timestamp:
    """Make a Timestamp from Unix seconds, to the microsecond."""
    stamp = Timestamp()
    set_timestamp(stamp, seconds)
    return stamp


def set_timestamp(stamp: Timestamp, seconds: float) -> None:
    """Set a Timestamp to Unix seconds, to the microsecond."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    stamp.seconds = whole
    stamp.nanos = micros * 1000


def unix(stamp: Timestamp) -> float:
    """Convert a Timestamp to Unix seconds; 0.0 when it is unset."""
    return stamp.seconds + stamp.nanos / 1e9


def trace_id_of(traceparent: str) -> str:
    """Return the trace id (32 hexadecimal digits) of a W3C traceparent; empty when there is none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= 4 else ""
