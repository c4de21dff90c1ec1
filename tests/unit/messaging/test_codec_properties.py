"""Any bytes on the stream give a record as it was written or CorruptRecord, and nothing else."""

import contextlib
import random
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec, model
from messaging.errors import CorruptRecord
from messaging.status import status_of
from tests.unit.messaging.chance import fill

KINDS = [wire.Command, wire.Event, wire.QueueEntry, wire.DeadLetter]
_T = TypeVar("_T", bound=Message)
SEEDS = st.integers(0, 2**32)
UNKNOWN = wire.Command(message_id="of a newer version").SerializeToString()


def written(kind: type[_T], seed: int) -> _T:
    """A record with random contents and a message_id."""
    record = fill(kind(), random.Random(seed))
    named = record.command if isinstance(record, wire.QueueEntry | wire.DeadLetter) else record
    assert isinstance(named, wire.Command | wire.Event)
    named.message_id = "0190-7"
    return record


@pytest.mark.parametrize("kind", KINDS)
@given(SEEDS)
def test_every_record_comes_back_as_it_was(kind: type[Message], seed: int) -> None:
    record = written(kind, seed)
    data = record.SerializeToString()
    assert codec.decode(kind, "s", data) == record
    assert codec.decode(kind, "s", data).SerializeToString(deterministic=True) == record.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("kind", KINDS)
@given(SEEDS, st.integers(100, 5000))
def test_fields_of_a_newer_version_are_kept_and_change_nothing(kind: type[Message], seed: int, number: int) -> None:
    record = written(kind, seed)
    tag = number << 3 | 2
    more = bytes([tag & 0x7F | 0x80, tag >> 7 & 0x7F | 0x80, tag >> 14, len(UNKNOWN)]) + UNKNOWN
    found = codec.decode(kind, "s", record.SerializeToString() + more)
    assert more in found.SerializeToString(), "an older version passes on fields that it does not know"
    found.DiscardUnknownFields()
    assert found == record


@given(st.sampled_from(KINDS), SEEDS, st.lists(st.integers(0, 2**16 - 1), max_size=5), st.integers(0, 200))
def test_damaged_record_is_read_or_refused_by_subject(
    kind: type[Message], seed: int, hits: list[int], lost: int
) -> None:
    data = bytearray(written(kind, seed).SerializeToString())
    for hit in hits:
        data[hit % len(data)] ^= hit >> 8 or 1
    try:
        codec.decode(kind, "sms.x", bytes(data[: len(data) - lost]))
    except CorruptRecord as refused:
        assert refused.subject == "sms.x"  # noqa: PT017


@given(SEEDS)
def test_a_status_can_be_built_from_whatever_a_newer_version_wrote(seed: int) -> None:
    command, event = written(wire.Command, seed), written(wire.Event, seed + 1)
    status = status_of(command, event)
    names = [model.state_name(status.state), model.priority_name(status.priority)]
    names += [model.outcome_name(attempt.outcome) for attempt in status.attempts]
    assert all(names)
    with contextlib.suppress(ValueError):
        assert names[0] == pb.MessageState.Name(status.state).removeprefix("MESSAGE_STATE_")
