import itertools

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.redelivery import Meaning, meaning_of

QUEUED, SENDING, SENT = pb.MESSAGE_STATE_QUEUED, pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_SENT
UNKNOWN = pb.MESSAGE_STATE_UNKNOWN
END, AGAIN = wire.NEXT_STEP_UNSPECIFIED, wire.NEXT_STEP_AGAIN
MOVE, LATER, BURY = wire.NEXT_STEP_MOVE, wire.NEXT_STEP_LATER, wire.NEXT_STEP_BURY

# state of the last event, its next step, held, does the entry follow from it, what it means
# fmt: off
TABLE = [
    (QUEUED, MOVE, False, True, Meaning.READY),     # the very entry that the event asked for
    (QUEUED, LATER, False, True, Meaning.READY),
    (SENDING, LATER, True, True, Meaning.HELD),     # it is time to ask again
    (QUEUED, AGAIN, False, False, Meaning.READY),   # the pod that should have gone on vanished
    (QUEUED, MOVE, False, False, Meaning.REPEAT),   # written, and perhaps never published
    (QUEUED, LATER, False, False, Meaning.REPEAT),
    (SENDING, LATER, True, False, Meaning.REPEAT),
    (UNKNOWN, BURY, False, False, Meaning.REPEAT),
    (pb.MESSAGE_STATE_FAILED, BURY, False, False, Meaning.REPEAT),
    (pb.MESSAGE_STATE_EXPIRED, BURY, False, False, Meaning.REPEAT),
    (SENDING, END, False, False, Meaning.UNCLEAR),  # an attempt was begun
    (SENT, END, False, False, Meaning.FORGET),
    (pb.MESSAGE_STATE_FAILED, END, False, False, Meaning.FORGET),
    (pb.MESSAGE_STATE_CANCELED, END, False, False, Meaning.FORGET),
    (pb.MESSAGE_STATE_REJECTED, END, False, False, Meaning.FORGET),
    (pb.MESSAGE_STATE_DELIVERED, END, False, False, Meaning.FORGET),
]
# fmt: on


@pytest.mark.parametrize(("state", "step", "held", "follows", "meaning"), TABLE)
def test_entry_means_what_the_event_log_says(
    state: int,
    step: int,
    held: bool,  # noqa: FBT001
    follows: bool,  # noqa: FBT001
    meaning: Meaning,
) -> None:
    last = wire.Event(state=pb.MessageState.ValueType(state), next=wire.NextStep.ValueType(step), held=held)
    assert meaning_of(7 if follows else 3, last, 7) is meaning
    if not follows:
        assert meaning_of(0, last, 7) is meaning, "an entry from acceptance is as old as any"


def test_message_without_events_is_ready() -> None:
    assert meaning_of(0, None, 0) is Meaning.READY


def test_marker_of_an_attempt_is_never_taken_for_leave_to_begin_another() -> None:
    marker = wire.Event(state=SENDING)
    for entry in (0, 1, 6):
        assert meaning_of(entry, marker, 7) is Meaning.UNCLEAR


def test_final_message_never_gets_another_attempt_from_an_old_entry() -> None:
    for state, step in itertools.product((SENT, pb.MESSAGE_STATE_FAILED, UNKNOWN), (END, BURY)):
        assert meaning_of(3, wire.Event(state=state, next=step), 7) in {Meaning.FORGET, Meaning.REPEAT}
