"""What a drawn message means, in the light of its last event. Pure.

Queue entries are hints: one may come twice, late, or for a message that has moved on. The event log decides.
"""

import enum

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

_STEPS = frozenset({wire.NEXT_STEP_MOVE, wire.NEXT_STEP_LATER, wire.NEXT_STEP_BURY})


class Meaning(enum.Enum):
    """What to do with the message."""

    READY = "an attempt may begin"
    FORGET = "it has moved on: acknowledge"
    REPEAT = "its next step may be missing: take it again, then acknowledge"
    UNCLEAR = "an attempt was begun and has no recorded end: look again after it must have ended"
    HELD = "its outcome is unclear, and it is time to ask again"


def meaning_of(entry_sequence: int, last: wire.Event | None, last_sequence: int) -> Meaning:
    """Judge an entry that follows from the event at `entry_sequence` (0: from acceptance) by the last event."""
    if last is None:
        return Meaning.READY
    if last_sequence == entry_sequence:
        return Meaning.HELD if last.held else Meaning.READY
    if last.next == wire.NEXT_STEP_AGAIN:
        return Meaning.READY
    if last.next in _STEPS:
        return Meaning.REPEAT
    if last.state == pb.MESSAGE_STATE_SENDING:
        return Meaning.UNCLEAR
    return Meaning.FORGET
