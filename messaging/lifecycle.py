"""The table of allowed state transitions, which keeps a message from moving backward. Pure."""

from sms.gateway.v1 import message_pb2 as pb

_A, _SCHED, _Q, _SENDING, _SENT = (
    pb.MESSAGE_STATE_ACCEPTED,
    pb.MESSAGE_STATE_SCHEDULED,
    pb.MESSAGE_STATE_QUEUED,
    pb.MESSAGE_STATE_SENDING,
    pb.MESSAGE_STATE_SENT,
)
_DELIVERED, _UNDELIVERED, _FAILED, _EXPIRED, _CANCELED, _REJECTED, _UNKNOWN = (
    pb.MESSAGE_STATE_DELIVERED,
    pb.MESSAGE_STATE_UNDELIVERED,
    pb.MESSAGE_STATE_FAILED,
    pb.MESSAGE_STATE_EXPIRED,
    pb.MESSAGE_STATE_CANCELED,
    pb.MESSAGE_STATE_REJECTED,
    pb.MESSAGE_STATE_UNKNOWN,
)

_BEFORE_ATTEMPT = frozenset({_Q, _SENDING, _FAILED, _EXPIRED, _CANCELED, _REJECTED})

# SENDING → SENDING ends one attempt and begins the next in one event, or marks an outcome as unclear.
# Replays are not listed: an operator may put a message from any REPLAYABLE state back to QUEUED.
TRANSITIONS: dict[int, frozenset[int]] = {
    _A: _BEFORE_ATTEMPT | {_SCHED},
    _SCHED: _BEFORE_ATTEMPT,
    # UNKNOWN: it was waiting for another attempt after an unclear one. CANCELED: after clear failures only.
    _Q: _BEFORE_ATTEMPT | {_UNKNOWN},
    _SENDING: frozenset({_Q, _SENDING, _SENT, _DELIVERED, _UNDELIVERED, _FAILED, _EXPIRED, _REJECTED, _UNKNOWN}),
    _SENT: frozenset({_DELIVERED, _UNDELIVERED}),
    _UNKNOWN: frozenset({_SENT, _DELIVERED, _UNDELIVERED}),
    _DELIVERED: frozenset(),
    _UNDELIVERED: frozenset(),
    _FAILED: frozenset(),
    _EXPIRED: frozenset(),
    _CANCELED: frozenset(),
    _REJECTED: frozenset(),
}

REPLAYABLE = frozenset({_FAILED, _EXPIRED, _UNKNOWN, _REJECTED})
"""States from which an operator may put a message back into a queue."""


def may_follow(before: int, after: int) -> bool:
    """Whether a message may go from state `before` to state `after`."""
    return after in TRANSITIONS.get(before, frozenset())
