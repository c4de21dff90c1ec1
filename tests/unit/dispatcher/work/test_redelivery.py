import itertools

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.redelivery import RedeliveryAction as Action
from dispatcher.work.redelivery import action_for

QUEUED, SENDING, SENT = pb.MESSAGE_STATE_QUEUED, pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_SENT
UNKNOWN = pb.MESSAGE_STATE_UNKNOWN
END, AGAIN = wire.NEXT_STEP_UNSPECIFIED, wire.NEXT_STEP_AGAIN
MOVE, LATER, BURY = wire.NEXT_STEP_MOVE, wire.NEXT_STEP_LATER, wire.NEXT_STEP_BURY

# state of the last event, its next step, held, whether that event asked for the entry, the action
# fmt: off
TABLE = [
    (QUEUED, MOVE, False, True, Action.START_ATTEMPT),  # the entry that the event asked for
    (QUEUED, LATER, False, True, Action.START_ATTEMPT),
    (SENDING, LATER, True, True, Action.RESOLVE_HELD),  # it is time to look it up
    (QUEUED, AGAIN, False, False, Action.START_ATTEMPT),  # its pod vanished
    (QUEUED, MOVE, False, False, Action.REPEAT_STEP),  # the entry may be missing
    (QUEUED, LATER, False, False, Action.REPEAT_STEP),
    (SENDING, LATER, True, False, Action.REPEAT_STEP),
    (UNKNOWN, BURY, False, False, Action.REPEAT_STEP),
    (pb.MESSAGE_STATE_FAILED, BURY, False, False, Action.REPEAT_STEP),
    (pb.MESSAGE_STATE_EXPIRED, BURY, False, False, Action.REPEAT_STEP),
    (SENDING, END, False, False, Action.AWAIT_ATTEMPT),  # an attempt has started
    (SENT, END, False, False, Action.ACKNOWLEDGE),
    (pb.MESSAGE_STATE_FAILED, END, False, False, Action.ACKNOWLEDGE),
    (pb.MESSAGE_STATE_CANCELED, END, False, False, Action.ACKNOWLEDGE),
    (pb.MESSAGE_STATE_REJECTED, END, False, False, Action.ACKNOWLEDGE),
    (pb.MESSAGE_STATE_DELIVERED, END, False, False, Action.ACKNOWLEDGE),
]
# fmt: on


@pytest.mark.parametrize(("state", "step", "held", "asked_for_entry", "action"), TABLE)
def test_action_for_an_entry_follows_from_the_last_event(
    state: int,
    step: int,
    held: bool,  # noqa: FBT001
    asked_for_entry: bool,  # noqa: FBT001
    action: Action,
) -> None:
    last = wire.Event(state=pb.MessageState.ValueType(state), next=wire.NextStep.ValueType(step), held=held)
    assert action_for(7 if asked_for_entry else 3, last, 7) is action
    if not asked_for_entry:
        assert action_for(0, last, 7) is action, "the entry of the acceptance is old as well"


def test_message_without_events_may_start_an_attempt() -> None:
    assert action_for(0, None, 0) is Action.START_ATTEMPT


def test_marker_of_a_running_attempt_never_permits_another_attempt() -> None:
    marker = wire.Event(state=SENDING)
    for entry in (0, 1, 6):
        assert action_for(entry, marker, 7) is Action.AWAIT_ATTEMPT


def test_final_message_never_gets_another_attempt_from_an_old_entry() -> None:
    for state, step in itertools.product((SENT, pb.MESSAGE_STATE_FAILED, UNKNOWN), (END, BURY)):
        assert action_for(3, wire.Event(state=state, next=step), 7) in {
            Action.ACKNOWLEDGE,
            Action.REPEAT_STEP,
        }
