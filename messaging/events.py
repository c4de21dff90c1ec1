"""Builds the next event of a message from its last one. Pure; nothing else builds events.

Readers look at the last event only, so each event repeats what they need from the events before it. The three tables
below say for every field of an event where its value comes from; a field in none of them fails a test. Fields that only
a newer version knows are repeated too. `last` is the last event, an empty one for a message that was only accepted.
Times are Unix seconds.
"""

from typing import Protocol

import attrs
from google.protobuf.unknown_fields import UnknownFieldSet
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import Address

UNREADABLE = "UNREADABLE"
"""The reason of a dead letter whose record cannot be read."""

MAX_UNREADABLE_BYTES = 500_000
"""A dead letter keeps this much of such a record: with all of it, the server might not take the letter."""

_MAX_UINT32 = 2**32 - 1
MAX_ATTEMPTS = 50
"""An event holds this many of the newest attempts; `attempt_count` counts all of them."""

MESSAGE_FIELDS = ("message_id", "client")
"""The same in every event of a message."""

COPIED_FIELDS = ("attempts", "attempt_count", "round", "tried", "deadline")
"""Copied from the last event, unless the change gives a new value."""

NEW_FIELDS = {
    "state": "it is what changes",
    "provider": "the one that the new state is about; the last event's where the change names none",
    "time": "when this event was made",
    "reason": "why the message has this state; the last event's reason explains another state",
    "detail": "as reason",
    "next": "the step that this event asks for; the last event's step must not be taken twice",
    "due_time": "belongs to the next step",
    "pod": "the process that writes this event",
    "nonce": "set by the publisher, for each write",
    "held": "whether this event leaves the outcome of an attempt unclear",
    "traceparent": "the writer's span; else the last event's, else that of the acceptance",
}
"""Set in each event anew, and why."""


class CallEnd(Protocol):
    """How a call to a provider ended; `providers.base.Outcome` is one."""

    @property
    def kind(self) -> pb.AttemptOutcome.ValueType:
        """The outcome, such as accepted or throttled."""

    @property
    def provider_message_id(self) -> str:
        """The provider's id for the message; may be empty."""

    @property
    def code(self) -> str:
        """The provider's own code; may be empty."""

    @property
    def detail(self) -> str:
        """One sentence for people to read."""


@attrs.frozen
class Change:
    """What the next event changes. None keeps the last event's value; `due` is when the next step is due."""

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
    """The process that writes an event, and the W3C traceparent of the span it writes in; empty when there is none."""

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
    """Build the event of a change; `ended` closes the last attempt."""
    event = _begin(command, last, writer, now)
    event.state = change.state
    event.provider = change.provider or last.provider or command.provider
    event.reason = change.reason
    event.detail = change.detail
    event.next = change.next
    event.held = change.held
    event.attempts.extend(last.attempts)
    event.round = last.round if change.round is None else change.round
    event.tried.extend(last.tried if change.tried is None else change.tried)
    if change.next == wire.NEXT_STEP_LATER or change.due:
        codec.set_timestamp(event.due_time, change.due)
    if change.deadline is not None:
        codec.set_timestamp(event.deadline, change.deadline)
    if ended is not None and event.attempts:
        _close(event.attempts[-1], ended, now)
    return event


def attempt_started(command: wire.Command, last: wire.Event, provider: str, writer: Writer, now: float) -> wire.Event:
    """Build the marker that is written before a provider is called: SENDING, with a new attempt that is still open."""
    event = _begin(command, last, writer, now)
    event.state = pb.MESSAGE_STATE_SENDING
    event.provider = provider
    event.attempt_count = min(event.attempt_count + 1, _MAX_UINT32)
    event.attempts.extend(last.attempts[-(MAX_ATTEMPTS - 1) :])
    attempt = event.attempts.add()
    attempt.number = event.attempt_count
    attempt.provider = provider
    codec.set_timestamp(attempt.start_time, now)
    event.round = last.round
    event.tried.extend(last.tried)
    return event


def _begin(command: wire.Command, last: wire.Event, writer: Writer, now: float) -> wire.Event:
    event = _with_unknown_fields_of(last)
    event.message_id = command.message_id
    event.client = command.client
    codec.set_timestamp(event.time, now)
    event.attempt_count = last.attempt_count
    event.pod = writer.pod
    event.traceparent = writer.traceparent or last.traceparent or command.traceparent
    if last.HasField("deadline"):
        event.deadline.CopyFrom(last.deadline)
    return event


def _with_unknown_fields_of(last: wire.Event) -> wire.Event:
    """Begin an event with the fields of the last one that only a newer version knows, such as a count of its own."""
    event = wire.Event()
    if len(UnknownFieldSet(last)):
        event.CopyFrom(last)
        for field in wire.Event.DESCRIPTOR.fields:
            event.ClearField(field.name)  # type: ignore[arg-type]  # every field's name is one
    return event


def _close(attempt: pb.Attempt, ended: CallEnd, now: float) -> None:
    codec.set_timestamp(attempt.end_time, now)
    attempt.outcome = ended.kind
    attempt.code = ended.code
    attempt.detail = ended.detail
    if ended.provider_message_id:
        attempt.provider_message_id = ended.provider_message_id


def dead_letter(command: wire.Command, last: wire.Event, sequence: int) -> wire.DeadLetter:
    """Build the dead letter that an event asks for; `sequence` is that event's in its stream."""
    return wire.DeadLetter(command=command, last=last, last_sequence=sequence, reason=last.reason, time=last.time)


def unreadable_letter(address: Address, provider: str, data: bytes, why: str, now: float) -> wire.DeadLetter:
    """Build the dead letter of a record that cannot be read; `why` says what is wrong with it."""
    letter = wire.DeadLetter(
        command=wire.Command(message_id=address.message_id, client=address.client, provider=provider),
        reason=UNREADABLE,
        unreadable=data[:MAX_UNREADABLE_BYTES],
        time=codec.timestamp(now),
    )
    cut = f"; only its first {MAX_UNREADABLE_BYTES} bytes of {len(data)} are kept"
    letter.last.detail = why + (cut if len(data) > MAX_UNREADABLE_BYTES else "")
    return letter
