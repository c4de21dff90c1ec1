"""Records in any order and with repeats give the same rows."""

import random
import uuid
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging.errors import CorruptRecord
from messaging.store.rows import Projected, to_rows
from tests.unit.messaging.chance import fill

IDS = [str(uuid.UUID(int=0x7000_8000_0000_0000_0000 + number)) for number in range(3)]


def a_batch(chance: random.Random) -> list[Projected]:
    batch = []
    for sequence, message_id in enumerate(IDS, 1):
        entry = fill(wire.QueueEntry(), chance)
        entry.command.message_id = message_id
        batch.append(Projected(sequence, entry=entry))
    for sequence in range(1, 9):
        event = fill(wire.Event(), chance)
        event.message_id = chance.choice(IDS)
        batch.append(Projected(sequence, event=event))
    return batch


@given(st.integers(0, 2**32))
def test_a_batch_in_any_order_with_repeats_gives_the_same_rows(seed: int) -> None:
    chance = random.Random(seed)
    batch = a_batch(chance)
    again = batch + chance.sample(batch, 5)
    chance.shuffle(again)
    rows = to_rows(batch)
    assert to_rows(again) == rows
    for row in rows.messages:
        events = [item for item in batch if item.event and item.event.message_id == str(row["message_id"])]
        newest = max(events, key=lambda item: item.sequence, default=None)
        if newest is not None and newest.event is not None:
            assert (row["version"], row["state"]) == (newest.sequence, newest.event.state), "never moved back"


@given(st.integers(-62135596800, 253402300799), st.integers(0, 999_999_999))
def test_time_equals_protobufs_conversion_to_the_microsecond(seconds: int, nanos: int) -> None:
    event = wire.Event(message_id=IDS[0])
    event.time.seconds, event.time.nanos = seconds, nanos
    (row,) = to_rows([Projected(1, event=event)]).events
    assert row["time"] == event.time.ToDatetime(tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "nanos"), [(2**60, 0), (-(2**60), 0), (1, -5), (1, 2**31 - 1)])
def test_time_out_of_range_makes_a_corrupt_record(seconds: int, nanos: int) -> None:
    event = wire.Event(message_id=IDS[0])
    event.time.seconds, event.time.nanos = seconds, nanos
    with pytest.raises(CorruptRecord, match="time"):
        to_rows([Projected(1, event=event)])
