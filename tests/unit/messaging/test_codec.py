import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.errors import CorruptRecord
from messaging.model import key_from_bytes, new_address

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


ADDRESS = new_address("default", 1_700_000_000_000, key_from_bytes(b"0123456789"))
SUBJECT = f"sms.send.p1.normal.{ADDRESS}"
OF_ADDRESS = wire.Command(message_id=ADDRESS.message_id, client="default")


@pytest.mark.parametrize("seconds", [-1, -(2**62), 253_402_300_800, 2**62])
@pytest.mark.parametrize("name", ["accept_time", "schedule_time", "deadline"])
def test_time_outside_the_calendar_is_refused(name: str, seconds: int) -> None:
    command = wire.Command(message_id="0190-7")
    getattr(command, name).seconds = seconds
    with pytest.raises(CorruptRecord, match="calendar"):
        codec.decode(wire.QueueEntry, "s", wire.QueueEntry(command=command).SerializeToString())


@pytest.mark.parametrize("nanos", [-1, 10**9, 2**31 - 1])
def test_nanoseconds_outside_a_second_are_refused_wherever_they_are(nanos: int) -> None:
    stamp = Timestamp(seconds=1, nanos=nanos)
    events = [
        wire.Event(message_id="0190-7", time=stamp),
        wire.Event(message_id="0190-7", attempts=[pb.Attempt(end_time=stamp)]),
    ]
    for event in events:
        with pytest.raises(CorruptRecord):
            codec.decode(wire.Event, "s", event.SerializeToString())
        with pytest.raises(CorruptRecord):
            codec.decode(wire.QueueEntry, "s", wire.QueueEntry(command=COMMAND, last=event).SerializeToString())
        with pytest.raises(CorruptRecord):
            codec.decode(wire.DeadLetter, "s", wire.DeadLetter(command=COMMAND, last=event).SerializeToString())


def test_record_under_the_subject_of_another_message_or_client_is_refused() -> None:
    data = wire.QueueEntry(command=OF_ADDRESS).SerializeToString()
    assert codec.decode(wire.QueueEntry, SUBJECT, data).command == OF_ADDRESS
    for subject in (
        f"sms.send.p1.normal.{new_address('default', 1, ADDRESS.key)}",
        f"sms.send.p1.normal.{new_address('other', 1_700_000_000_000, ADDRESS.key)}",
    ):
        with pytest.raises(CorruptRecord, match="another"):
            codec.decode(wire.QueueEntry, subject, data)


def test_record_without_end_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(CorruptRecord, match="bytes"):
        codec.decode(wire.Event, "s", b"\x0a" * (codec.MAX_RECORD_BYTES + 1))
    long = wire.Command(message_id="0190-7", body="x" * 100_000)
    with pytest.raises(CorruptRecord, match="too long"):
        codec.decode(wire.Command, "s", long.SerializeToString())
