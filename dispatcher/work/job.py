"""One message in this pod's hands. Pure but for holding the delivery and the span."""

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
    """A drawn message: its queue entry, and its last event as far as we know with its sequence (0: none).

    `placed` says whether that event may be taken for the last one. If not, it is read from the stream first. `writer`
    signs the events that this job writes.
    """

    delivery: Delivery
    entry: wire.QueueEntry
    address: Address
    lane: Lane
    span: Span
    writer: Writer
    placed: bool
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
        """Unix seconds after which no attempt begins."""
        return deadline_of(self.command, self.last)

    @property
    def progress(self) -> Progress:
        """How far the message has come."""
        return Progress(self.last.attempt_count, self.last.round, tuple(self.last.tried))

    def place(self, last: wire.Event | None, sequence: int) -> None:
        """Take over what the stream says is the last event; None when there is none."""
        self.last, self.sequence, self.placed = last or wire.Event(), sequence, True

    def next_entry(self) -> wire.QueueEntry:
        """Make the queue entry that follows from the last event."""
        return wire.QueueEntry(command=self.command, last=self.last, last_sequence=self.sequence)
