"""One message that this pod has drawn and not yet released. Pure, except that it holds the delivery and the span."""

import attrs
from opentelemetry.trace import Span
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.verdict import Progress
from messaging.events import Writer
from messaging.model import Address, Lane
from messaging.status import deadline_of
from messaging.stream.interface import Delivery


@attrs.define(eq=False, kw_only=True)
class Job:
    """A drawn message: its queue entry, and its last known event with that event's sequence (0: no event).

    `last_is_current` is False when the stream may hold a newer event: then read it before doing anything else.
    `writer` signs the events that this job writes.
    """

    delivery: Delivery
    entry: wire.QueueEntry
    address: Address
    lane: Lane
    span: Span
    writer: Writer
    last_is_current: bool
    last: wire.Event = attrs.field()
    sequence: int = attrs.field()

    @last.default
    def _last(self) -> wire.Event:
        return self.entry.last

    @sequence.default
    def _sequence(self) -> int:
        return self.entry.last_sequence

    @property
    def command(self) -> wire.Command:
        """The message as it was accepted."""
        return self.entry.command

    @property
    def deadline(self) -> float:
        """Unix seconds after which no attempt starts."""
        return deadline_of(self.command, self.last)

    @property
    def progress(self) -> Progress:
        """How many attempts and rounds the message has had, and which providers it tried in this round."""
        return Progress(self.last.attempt_count, self.last.round, tuple(self.last.tried))

    def set_last(self, last: wire.Event | None, sequence: int) -> None:
        """Set the last event as the stream has it; None when the message has no event."""
        self.last, self.sequence, self.last_is_current = last or wire.Event(), sequence, True

    def next_entry(self) -> wire.QueueEntry:
        """Make the queue entry that the last event asks for."""
        entry = wire.QueueEntry()
        entry.CopyFrom(self.entry)  # with the fields that only a newer version knows
        entry.last.CopyFrom(self.last)
        entry.last_sequence = self.sequence
        return entry
