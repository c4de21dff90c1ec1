"""Copies acceptances and events from the stream to PostgreSQL.

Each batch is one transaction, and is acknowledged after its commit.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import attrs
import structlog
from opentelemetry.trace import SpanKind
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging import codec
from messaging.errors import CorruptRecord, StoreDown, StoreRefuses
from messaging.model import parse_address
from messaging.runtime import telemetry
from messaging.runtime.backoff import Backoff, retry
from messaging.runtime.spans import Tracer
from messaging.store.writer import Projected
from messaging.stream import topology as topo
from messaging.stream.ack_extender import extend_acks
from messaging.stream.interface import Connection, Consumer, Delivery

_log = structlog.get_logger(__name__)

_BATCH = 500
_FETCH_S = 0.5
_PAUSE_S = 0.1
"""The pause after a small batch, so that the next one is larger: a transaction for each message costs much more."""
_ACK_S = 3.0
_STORE_AWAY = Backoff(first_s=0.1, longest_s=5.0)
_PARTITIONS_EVERY_S = 3600.0


class Writer(Protocol):
    """What the projector needs of the store."""

    async def write(self, batch: Sequence[Projected]) -> None:
        """Write the batch in one transaction; raises StoreDown, or StoreRefuses when it can never be written."""

    async def ensure_partitions(self, now: datetime, weeks_ahead: int = 5) -> object:
        """Create the partitions for the next weeks; raises StoreDown."""


@attrs.frozen
class _Item:
    delivery: Delivery
    projected: Projected


class Projector:
    """Several projectors may run: the store keeps each record once, whoever writes it."""

    def __init__(
        self,
        connection: Connection,
        writer: Writer,
        tracer: Tracer,
        ack_wait_s: float,
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._ack_wait_s = ack_wait_s
        self._tracer = tracer

    async def run(self) -> None:
        """Project until cancelled."""
        accepts = await self._connection.consumer(topo.ACCEPT, topo.PROJECT_ACCEPT)
        events = await self._connection.consumer(topo.EVENT, topo.PROJECT_EVENT)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._partitions(), name="partitions")
            group.create_task(self._project_stream(accepts, _from_accept), name="project-accepts")
            group.create_task(self._project_stream(events, _from_event), name="project-events")

    async def _partitions(self) -> None:
        while True:
            await self._until_stored(lambda: self._writer.ensure_partitions(datetime.now(UTC)))
            await asyncio.sleep(_PARTITIONS_EVERY_S)

    async def _project_stream(self, consumer: Consumer, read: Callable[[Delivery], Projected]) -> None:
        while True:
            deliveries = await consumer.fetch(_BATCH, _FETCH_S)
            items = []
            for delivery in deliveries:
                try:
                    items.append(_Item(delivery, read(delivery)))
                except CorruptRecord as exc:
                    _log.error("unreadable record left out of the history", error=str(exc))
            if items:
                await self._project(items, deliveries)
            # Only the last acknowledgement waits for the server. If a crash loses the others, their records are written
            # again, which changes nothing.
            for delivery in deliveries[:-1]:
                await delivery.ack_lightly()
            for delivery in deliveries[-1:]:
                await delivery.ack(_ACK_S)
            if 0 < len(deliveries) < _BATCH:
                await asyncio.sleep(_PAUSE_S)

    async def _project(self, items: list[_Item], deliveries: Sequence[Delivery]) -> None:
        """Write a batch, waiting while the store is down; a record that can never be written is logged."""
        began = time.time_ns()
        extender = asyncio.create_task(extend_acks(lambda: deliveries, self._ack_wait_s), name="ack-extender")
        try:
            await self._until_stored(lambda: self._write(items))
        finally:
            extender.cancel()
        for item in items if self._tracer.records else ():
            parent = telemetry.caller_of(item.delivery.headers)
            span = self._tracer.start("project", parent, SpanKind.CONSUMER, start_time=began)
            span.end()

    async def _write(self, items: list[_Item]) -> None:
        try:
            await self._writer.write([item.projected for item in items])
        except (StoreRefuses, CorruptRecord):
            if len(items) == 1:
                record = items[0].projected.event or items[0].projected.entry
                message = record.command if isinstance(record, wire.QueueEntry) else record
                message_id = message and message.message_id
                _log.exception("a record that the store refuses is left out of the history", message_id=message_id)
                return
            # Halve the batch to find the record that is refused.
            middle = len(items) // 2
            await self._write(items[:middle])
            await self._write(items[middle:])

    async def _until_stored(self, write: Callable[[], Awaitable[object]]) -> None:
        async def once() -> None:
            try:
                await write()
            except StoreDown as exc:
                _log.warning("the projector waits for the store", error=str(exc))
                raise

        await retry(once, _STORE_AWAY, StoreDown)


def _from_accept(delivery: Delivery) -> Projected:
    parse_address(delivery.subject)
    entry = codec.decode(wire.QueueEntry, delivery.subject, delivery.data)
    return Projected(sequence=delivery.sequence, entry=entry, event=None)


def _from_event(delivery: Delivery) -> Projected:
    parse_address(delivery.subject)
    event = codec.decode(wire.Event, delivery.subject, delivery.data)
    return Projected(sequence=delivery.sequence, entry=None, event=event)
