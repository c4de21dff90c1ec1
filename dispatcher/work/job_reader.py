"""Turns a delivery into a job. What cannot be read goes to the dead letters."""

from collections.abc import Callable

import attrs
import structlog
from opentelemetry.trace import SpanKind
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from messaging import codec
from messaging.errors import CorruptRecord
from messaging.events import Writer
from messaging.model import Address, Lane, parse_address
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer
from messaging.stream.clock import wall_time
from messaging.stream.interface import Delivery

_log = structlog.get_logger(__name__)


@attrs.define
class JobReader:
    """Reads the deliveries of one pod. `events_kept_s` is how long the stream keeps events."""

    provider: str
    pod: str
    event_log: EventLog
    tracer: Tracer
    events_kept_s: float
    now: Callable[[], float] = wall_time

    async def read(self, lane: Lane, delivery: Delivery) -> Job | None:
        """Return the job of a delivery; None when the delivery only needs to be acknowledged."""
        try:
            address = parse_address(delivery.subject)
        except CorruptRecord as exc:
            _log.error("a queue entry without an address is dropped", subject=delivery.subject, error=str(exc))
            return None
        try:
            entry = codec.decode(wire.QueueEntry, delivery.subject, delivery.data)
            _check(entry, delivery.subject)
        except CorruptRecord as exc:
            _log.error("unreadable queue entry", message_id=address.message_id, error=str(exc))
            await self.event_log.dead_letter_unreadable(delivery, address, self.provider, exc.why)
            return None
        if codec.unix(entry.command.deadline) + self.events_kept_s / 2 < self.now():
            # The stream may have deleted its events by now, and then the message would look as if it was never sent.
            _log.warning("a stale queue entry is dropped", message_id=address.message_id)
            return None
        return self._job(lane, delivery, entry, address)

    def _job(self, lane: Lane, delivery: Delivery, entry: wire.QueueEntry, address: Address) -> Job:
        parent = delivery.headers.get(codec.TRACEPARENT) or entry.command.traceparent
        span = self.tracer.start(
            "consume",
            telemetry.caller_of(parent),
            SpanKind.CONSUMER,
            attributes={"sms.message_id": address.message_id, "sms.provider": self.provider, "sms.lane": lane},
        )
        return Job(
            delivery=delivery,
            entry=entry,
            address=address,
            lane=lane,
            span=span,
            writer=Writer(self.pod, telemetry.traceparent_of(span)),
            # A first delivery is not checked here: if the message has moved on, the attempt's marker is refused.
            last_is_current=delivery.delivered == 1 and not entry.last.held,
        )


def _check(entry: wire.QueueEntry, subject: str) -> None:
    """Check what only a queue entry has; raises CorruptRecord."""
    if not entry.command.HasField("deadline"):
        raise CorruptRecord(subject, "it has no deadline")
    if entry.last.message_id not in {"", entry.command.message_id}:
        raise CorruptRecord(subject, "its last event is of another message")
