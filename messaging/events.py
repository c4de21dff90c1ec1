"""The one pen: makes the event that follows from a message's last one. Pure; every writer of events uses it.

The last event of a message is its whole truth, so each one carries on what the ones before it said. The three tables
name every field of an event; a field in none of them fails a test. `last` is the last event, an empty one for a message
that was only accepted; times are Unix seconds.
"""

from typing import Protocol

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import Address

UNREADABLE = "UNREADABLE"
"""The reason of a dead letter whose record nobody can read."""

MOST_ATTEMPTS_TOLD = 50
"""A very long story keeps its newest attempts; `attempt_count` keeps counting."""

OF_THE_MESSAGE = ("message_id", "client")
"""The same in every event of a message."""

CARRIED_ON = ("attempts", "attempt_count", "round", "tried", "deadline")
"""Taken from the last event unless the change itself says otherwise."""

TOLD_ANEW = {
    "state": "it is what changes",
    "provider": "the one that the new state speaks of; the last one's where the change names none",
    "time": "when this event was made",
    "reason": "why this state; an old reason would explain a new state",
    "detail": "as reason",
    "next": "the step that this event asks for; an old step must not be taken twice",
    "due_time": "belongs to the next step",
    "pod": "who wrote this event",
    "nonce": "set by the publisher, for each write",
    "held": "whether this event leaves an attempt unclear",
    "traceparent": "the writer's span; else the last event's, else that of the acceptance",
}
"""Never carried on, and why."""


class CallEnd(Protocol):
    """How a call to a provider ended; `providers.base.Outcome` is one."""

    @property
    def kind(self) -> pb.AttemptOutcome.ValueType:
        """Accepted, throttled, ..."""

    @property
    def provider_message_id(self) -> str:
        """The provider's id of the message; may be empty."""

    @property
    def code(self) -> str:
        """The provider's code."""

    @property
    def detail(self) -> str:
        """One sentence for people."""


@attrs.frozen
class Change:
    """What an event says that its predecessor did not. None carries the last event's value on."""

    state: pb.MessageState.ValueType
    next: wire.NextStep.ValueType = wire.NEXT_STEP_UNSPECIFIED
    provider: str = ""
    reason: str = ""
    detail: str = ""
    due: float = 0.0
    held: bool = False
    round: int | None = None
    tried: tuple[str, ...] | None = None
    deadline: float | None = None


@attrs.frozen
class Writer:
    """Who writes an event: the process, and the span (W3C traceparent) in which it does; empty when there is none."""

    pod: str
    traceparent: str = ""


def following(
    command: wire.Command,
    last: wire.Event,
    change: Change,
    writer: Writer,
    now: float,
    ended: CallEnd | None = None,
) -> wire.Event:
    """Make the event of a change; `ended` closes the last attempt."""
    event = _carry_on(command, last, writer, now)
    event.state = change.state
    event.provider = change.provider or last.provider or command.provider
    event.reason = change.reason
    event.detail = change.detail
    event.next = change.next
    event.held = change.held
    event.attempts.extend(last.attempts)
    event.round = last.round if change.round is None else change.round
    event.tried.extend(last.tried if change.tried is None else change.tried)
    if change.next == wire.NEXT_STEP_LATER:
        codec.set_timestamp(event.due_time, change.due)
    if change.deadline is not None:
        codec.set_timestamp(event.deadline, change.deadline)
    if ended is not None and event.attempts:
        _close(event.attempts[-1], ended, now)
    return event


def attempt_started(command: wire.Command, last: wire.Event, provider: str, writer: Writer, now: float) -> wire.Event:
    """Make the marker that stands while a call to a provider is under way."""
    event = _carry_on(command, last, writer, now)
    event.state = pb.MESSAGE_STATE_SENDING
    event.provider = provider
    event.attempt_count += 1
    event.attempts.extend(last.attempts[-(MOST_ATTEMPTS_TOLD - 1) :])
    attempt = event.attempts.add()
    attempt.number = event.attempt_count
    attempt.provider = provider
    codec.set_timestamp(attempt.start_time, now)
    event.round = last.round
    event.tried.extend(last.tried)
    return event


def _carry_on(command: wire.Command, last: wire.Event, writer: Writer, now: float) -> wire.Event:
    event = wire.Event()
    event.message_id = command.message_id
    event.client = command.client
    codec.set_timestamp(event.time, now)
    event.attempt_count = last.attempt_count
    event.pod = writer.pod
    event.traceparent = writer.traceparent or last.traceparent or command.traceparent
    if last.HasField("deadline"):
        event.deadline.CopyFrom(last.deadline)
    return event


def _close(attempt: pb.Attempt, ended: CallEnd, now: float) -> None:
    codec.set_timestamp(attempt.end_time, now)
    attempt.outcome = ended.kind
    attempt.code = ended.code
    attempt.detail = ended.detail
    if ended.provider_message_id:
        attempt.provider_message_id = ended.provider_message_id


def dead_letter(command: wire.Command, last: wire.Event, sequence: int) -> wire.DeadLetter:
    """Make the dead letter that an event asks for; `sequence` is where that event stands."""
    return wire.DeadLetter(command=command, last=last, last_sequence=sequence, reason=last.reason, time=last.time)


def unreadable_letter(address: Address, provider: str, data: bytes, why: str, now: float) -> wire.DeadLetter:
    """Make the dead letter of a record that nobody can read; `why` says what is wrong with it."""
    letter = wire.DeadLetter(
        command=wire.Command(message_id=address.message_id, client=address.client, provider=provider),
        reason=UNREADABLE,
        unreadable=data,
        time=codec.timestamp(now),
    )
    letter.last.detail = why
    return letter
