"""One message in this pod's hands, and the events that are written of it. Pure but for holding the delivery."""

import attrs
from opentelemetry.trace import Span
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.verdict import Progress, Verdict
from messaging import codec
from messaging.model import Address, Lane
from messaging.story import deadline_of
from messaging.stream.consumer import Delivery
from providers.base import Outcome

MOST_ATTEMPTS_TOLD = 50
"""A very long story keeps its newest attempts; `attempt_count` keeps counting."""


@attrs.define(eq=False)
class Job:
    """A drawn message: its command, its last event as far as we know, and where that event stands (0: none)."""

    delivery: Delivery
    command: wire.Command
    address: Address
    lane: Lane
    last: wire.Event
    sequence: int
    span: Span
    traceparent: str
    entry_sequence: int = 0

    @property
    def deadline(self) -> float:
        """Unix seconds after which no attempt begins."""
        return deadline_of(self.command, self.last)

    @property
    def progress(self) -> Progress:
        """Tell how far the message has come."""
        return Progress(self.last.attempt_count, self.last.round, tuple(self.last.tried))

    def entry(self) -> wire.QueueEntry:
        """Make the queue entry that follows from the last event."""
        return wire.QueueEntry(command=self.command, last=self.last, last_sequence=self.sequence)


def sending(job: Job, provider: str, pod: str, now: float) -> wire.Event:
    """Make the marker: an attempt begins."""
    number = job.last.attempt_count + 1
    attempt = pb.Attempt(number=number, provider=provider, start_time=codec.timestamp(now))
    return wire.Event(
        message_id=job.command.message_id,
        client=job.command.client,
        state=pb.MESSAGE_STATE_SENDING,
        provider=provider,
        time=codec.timestamp(now),
        attempts=[*job.last.attempts, attempt][-MOST_ATTEMPTS_TOLD:],
        attempt_count=number,
        round=job.last.round,
        tried=job.last.tried,
        pod=pod,
        traceparent=job.traceparent,
        deadline=job.last.deadline if job.last.HasField("deadline") else None,
    )


def following(job: Job, verdict: Verdict, pod: str, now: float, outcome: Outcome | None = None) -> wire.Event:
    """Make the event of a verdict; `outcome` closes the last attempt."""
    event = wire.Event(
        message_id=job.command.message_id,
        client=job.command.client,
        state=verdict.state,
        provider=verdict.provider,
        time=codec.timestamp(now),
        reason=verdict.reason,
        detail=verdict.detail,
        attempts=job.last.attempts,
        attempt_count=job.last.attempt_count,
        round=verdict.round,
        tried=verdict.tried,
        next=verdict.next,
        pod=pod,
        held=verdict.held,
        traceparent=job.traceparent,
        deadline=job.last.deadline if job.last.HasField("deadline") else None,
    )
    if verdict.next == wire.NEXT_STEP_LATER:
        event.due_time.CopyFrom(codec.timestamp(verdict.due))
    if outcome is not None and event.attempts:
        _close(event.attempts[-1], outcome, now)
    return event


def _close(attempt: pb.Attempt, outcome: Outcome, now: float) -> None:
    attempt.end_time.CopyFrom(codec.timestamp(now))
    attempt.outcome = outcome.kind
    attempt.code = outcome.code
    attempt.detail = outcome.detail
    if outcome.provider_message_id:
        attempt.provider_message_id = outcome.provider_message_id
