"""Schedules accepted messages that are to be sent later, and checks that schedules fire."""

import asyncio
import contextlib
import time

import structlog
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.event_log import EventLog
from messaging import codec
from messaging.errors import CorruptRecord, Unavailable
from messaging.model import FINAL_STATES, lane_of, parse_address
from messaging.stream import topology as topo
from messaging.stream.ack_extender import extend_acks
from messaging.stream.interface import ApiError, Connection, Delivery
from messaging.stream.publisher import Publisher

_log = structlog.get_logger(__name__)

_BATCH = 64
_RETRY_S = 1.0
_CHECK_EVERY_S = 15.0
_OVERDUE_S = 30.0


class Scheduler:
    """Runs in the coordinator's process. Several may run: scheduling a message again replaces its schedule."""

    def __init__(self, connection: Connection, ack_wait_s: float, window_s: float = topo.DUE_KEPT_S) -> None:
        """`window_s`: how long after its time a message must be found by its request_id."""
        self._connection = connection
        self._kept_s = max(window_s, topo.DUE_KEPT_S)
        self._ack_wait_s = ack_wait_s
        self._deliveries: list[Delivery] = []
        self._readable_from = 1
        self._publisher = Publisher(connection)
        self._event_log = EventLog(connection)

    async def run(self) -> None:
        """Schedule messages and check schedules until cancelled."""
        consumer = await self._connection.consumer(topo.ACCEPT, topo.SCHEDULE_CONSUMER)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check(), name="schedule-watch")
            group.create_task(extend_acks(lambda: self._deliveries, self._ack_wait_s), name="ack-extender")
            while True:
                self._deliveries = await consumer.fetch(_BATCH)
                await asyncio.gather(*(self._handle(delivery) for delivery in self._deliveries))
                self._deliveries = []

    async def _handle(self, delivery: Delivery) -> None:
        """Schedule one message and acknowledge it; give it back when the stream is unavailable or full."""
        try:
            await self._schedule(delivery)
        except CorruptRecord as exc:
            _log.error("a scheduled message goes to the dead letters", error=str(exc))
            await self._bury(delivery, exc.why)
        except Unavailable as exc:
            _log.warning("left for redelivery", error=str(exc))
            await asyncio.sleep(_RETRY_S)
            await delivery.give_back()
            return
        await delivery.ack()

    async def _bury(self, delivery: Delivery, why: str) -> None:
        """Put a record that makes no sense into the dead letters, unless its subject names no message either."""
        with contextlib.suppress(CorruptRecord):
            address = parse_address(delivery.subject)
            await self._event_log.dead_letter_unreadable(delivery, address, delivery.subject.split(".")[2], why)

    async def _schedule(self, delivery: Delivery) -> None:
        """Schedule one message; after a crash it is scheduled again, which replaces the schedule.

        A caller that cancels the message meanwhile finds no schedule to remove, so the last event is read again
        afterwards.
        """
        address = parse_address(delivery.subject)
        entry = codec.decode(wire.QueueEntry, delivery.subject, delivery.data)
        command = entry.command
        event, _ = await self._event_log.last_event(address)
        if event is None:
            due = codec.unix(command.schedule_time)
            lane = lane_of(command.priority)
            await self._publisher.schedule(entry, address, command.provider, lane, due, kept_s=self._kept_s)
            event, _ = await self._event_log.last_event(address)
        if event is not None and event.state in FINAL_STATES:
            await self._publisher.unschedule(address)

    async def _check(self) -> None:
        """Check for overdue schedules regularly, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            try:
                await self._check_first()
            except (Unavailable, ApiError) as exc:
                _log.warning("schedules not checked", error=str(exc))

    async def _check_first(self) -> None:
        """Ask for another leader when the first schedule is overdue: one whose account was full may have stalled."""
        entry = await self._first_schedule()
        due = codec.unix(entry.last.due_time) or codec.unix(entry.command.schedule_time) if entry else 0.0
        if entry and due and time.time() > due + _OVERDUE_S:
            _log.error("schedules are overdue", message_id=entry.command.message_id, seconds=round(time.time() - due))
            await self._connection.api(f"STREAM.LEADER.STEPDOWN.{topo.LATER_STREAM}", {})

    async def _first_schedule(self) -> wire.QueueEntry | None:
        """Read the first schedule that can be read; those before it are logged once and passed over from then on."""
        while found := await self._connection.next_after(topo.LATER_STREAM, self._readable_from, "sms.later.>"):
            try:
                return codec.decode(wire.QueueEntry, found.subject, found.data)
            except CorruptRecord as exc:
                _log.error("an unreadable schedule is passed over", error=str(exc))
                self._readable_from = found.sequence + 1
        return None
