"""Parses records of the streams, and converts timestamps and W3C trace context. Pure."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging.errors import CorruptRecord

_T = TypeVar("_T", bound=Message)

TRACEPARENT = "traceparent"


def decode(kind: type[_T], subject: str, data: bytes) -> _T:
    """Parse a record; raises CorruptRecord when the bytes are not a `kind`, or name no message."""
    record = kind()
    try:
        record.ParseFromString(data)
    except DecodeError as exc:
        raise CorruptRecord(subject, f"not a {kind.__name__}") from exc
    if isinstance(record, wire.DeadLetter) and record.unreadable:
        return record  # it holds a record that could not be read, so it may name no message
    named = record.command if isinstance(record, wire.QueueEntry | wire.DeadLetter) else record
    if isinstance(named, wire.Command | wire.Event) and not named.message_id:
        raise CorruptRecord(subject, f"a {kind.__name__} without message_id")
    return record


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
