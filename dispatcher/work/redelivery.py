"""Decides what to do with a queue entry, from the message's last event. Pure.

A queue entry is only a hint: it may be delivered twice, late, or for a message that has moved on. The event log
decides.
"""

import enum

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

_REPEATABLE_STEPS = frozenset({wire.NEXT_STEP_MOVE, wire.NEXT_STEP_LATER, wire.NEXT_STEP_BURY})


class RedeliveryAction(enum.Enum):
    """What to do with the message."""

    START_ATTEMPT = "an attempt may start"
    ACKNOWLEDGE = "the message has moved on: acknowledge the entry"
    REPEAT_STEP = "the next step may not have been taken: take it, then acknowledge"
    AWAIT_ATTEMPT = "an attempt has started and has no recorded end: wait until it must have ended"
    RESOLVE_HELD = "the message is held with an unclear outcome: look it up, or end it at its deadline"


def action_for(entry_sequence: int, last: wire.Event | None, last_sequence: int) -> RedeliveryAction:
    """Compare an entry with the message's last event.

    `entry_sequence` is the sequence of the event that asked for the entry, 0 when the acceptance did; `last` is None
    when the message has no event.
    """
    if last is None:
        return RedeliveryAction.START_ATTEMPT
    if last_sequence == entry_sequence:
        return RedeliveryAction.RESOLVE_HELD if last.held else RedeliveryAction.START_ATTEMPT
    if last.next == wire.NEXT_STEP_AGAIN:
        return RedeliveryAction.START_ATTEMPT
    if last.next in _REPEATABLE_STEPS:
        return RedeliveryAction.REPEAT_STEP
    if last.state == pb.MESSAGE_STATE_SENDING:
        return RedeliveryAction.AWAIT_ATTEMPT
    return RedeliveryAction.ACKNOWLEDGE
