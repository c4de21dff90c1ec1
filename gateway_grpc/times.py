"""Finds times and durations that are not as protobuf defines them. Pure.

A decoder lets them pass, and converting one into a date raises an exception of the library's.
"""

import functools

from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
"""From the year 1 to the end of the year 9999."""

_LONGEST_S = 315_576_000_000
_NANOS = 1_000_000_000

_STAMP, _SPAN = Timestamp.DESCRIPTOR.full_name, Duration.DESCRIPTOR.full_name


@functools.cache
def _fields(kind: Descriptor) -> tuple[tuple[str, bool], ...]:
    """Return the fields of a message that hold a time or a duration, as (name, whether it is a time)."""
    found = ((field.name, field.message_type) for field in kind.fields if field.message_type is not None)
    return tuple((name, of.full_name == _STAMP) for name, of in found if of.full_name in {_STAMP, _SPAN})


def malformed_times(request: Message) -> list[tuple[str, str]]:
    """Return (field, fault) for each time of a request that is not between the years 1 and 9999, or not a time."""
    faults = []
    for name, is_time in _fields(request.DESCRIPTOR):
        if not request.HasField(name):
            continue
        value = getattr(request, name)
        if is_time and not (_FIRST_S <= value.seconds <= _LAST_S and 0 <= value.nanos < _NANOS):
            faults.append((name, "is not a time: it must be in the years 1 to 9999, and its nanos below 1,000,000,000"))
        elif not is_time and not _is_duration(value):
            faults.append((name, "is not a duration: nanos must be below 1,000,000,000, and have the sign of seconds"))
    return faults


def _is_duration(value: Duration) -> bool:
    same_sign = value.seconds * value.nanos >= 0
    return same_sign and abs(value.seconds) <= _LONGEST_S and abs(value.nanos) < _NANOS
