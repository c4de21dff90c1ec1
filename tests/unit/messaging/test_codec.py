import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging import codec
from messaging.errors import CorruptRecord

COMMAND = wire.Command(message_id="0190-7", recipient="+233201234567", body="hello", labels={"a": "b"})
EVENT = wire.Event(message_id="0190-7", tried=["alpha"])
RECORDS: list[Message] = [
    COMMAND,
    EVENT,
    wire.QueueEntry(command=COMMAND),
    wire.QueueEntry(command=COMMAND, last=EVENT, last_sequence=7),
    wire.DeadLetter(command=COMMAND, last=EVENT, reason="EXHAUSTED"),
    wire.DeadLetter(reason="UNREADABLE", unreadable=b"\xff\xff"),
]


@pytest.mark.parametrize("record", RECORDS)
def test_record_comes_back_as_it_was(record: Message) -> None:
    assert codec.decode(type(record), "s", record.SerializeToString()) == record


@pytest.mark.parametrize("kind", [wire.Command, wire.Event, wire.QueueEntry, wire.DeadLetter])
@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff", b"not a record at all"])
def test_bytes_that_are_not_a_record_are_refused_with_their_subject(kind: type[Message], data: bytes) -> None:
    with pytest.raises(CorruptRecord) as refused:
        codec.decode(kind, "sms.event.x", data)
    assert refused.value.subject == "sms.event.x"


@given(st.binary(max_size=200))
def test_any_bytes_give_a_record_or_corrupt_record(data: bytes) -> None:
    try:
        assert codec.decode(wire.QueueEntry, "s", data).command.message_id
    except CorruptRecord as refused:
        assert "not a QueueEntry" in str(refused) or "without message_id" in str(refused)  # noqa: PT017


@given(st.integers(-62135596800 * 10**6, 253402300799 * 10**6))
def test_timestamp_keeps_microseconds(micros: int) -> None:
    seconds = micros / 1e6
    stamp = codec.timestamp(seconds)
    assert 0 <= stamp.nanos < 10**9
    assert codec.unix(stamp) == pytest.approx(seconds, abs=1e-4)
    if abs(micros) < 2**33 * 10**6:
        assert stamp.seconds * 10**6 + stamp.nanos // 1000 == round(seconds * 1e6)


def test_unset_timestamp_is_zero() -> None:
    assert codec.unix(Timestamp()) == 0.0


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("", ""),
        ("00-4bf9", ""),
    ],
)
def test_trace_id_is_taken_from_a_traceparent(traceparent: str, trace_id: str) -> None:
    assert codec.trace_id_of(traceparent) == trace_id
