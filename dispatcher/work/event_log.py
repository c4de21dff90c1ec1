"""Reads and writes the events of messages, and takes the step that an event names.

The order survives a crash at any point: first the event, by compare-and-set; then its next step, which may be repeated;
then the acknowledgement.
"""

from collections.abc import Callable

from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.job import Job
from messaging import codec, events
from messaging.errors import CorruptRecord
from messaging.lifecycle import may_follow
from messaging.model import Address
from messaging.status import first_state
from messaging.stream import topology as topo
from messaging.stream.clock import wall_time
from messaging.stream.interface import Connection, Delivery
from messaging.stream.publisher import Publisher


class EventLog:
    """The events of messages, for dispatchers."""

    def __init__(self, connection: Connection, now: Callable[[], float] = wall_time) -> None:
        self._connection = connection
        self._now = now
        self._publisher = Publisher(connection)

    async def last_event(self, address: Address) -> tuple[wire.Event | None, int]:
        """Read a message's last event and its sequence from the leader, or (None, 0); raises StreamDown."""
        record = await self._connection.last(topo.EVENT, topo.event_subject(address))
        if record is None:
            return None, 0
        return codec.decode(wire.Event, record.subject, record.data), record.sequence

    async def start_attempt(self, job: Job, provider: str) -> bool:
        """Write the marker that an attempt starts; False when another writer was first."""
        return await self._append(job, events.attempt_started(job.command, job.last, provider, job.writer, self._now()))

    async def record(self, job: Job, change: events.Change, ended: events.CallEnd | None = None) -> bool:
        """Write a change of the message; `ended` also ends its attempt. False when another writer was first."""
        return await self._append(job, events.following(job.command, job.last, change, job.writer, self._now(), ended))

    async def _append(self, job: Job, event: wire.Event) -> bool:
        """Write the job's next event, repeating until the stream answers; raises CorruptRecord if it may not follow."""
        before = job.last.state if job.sequence else first_state(job.command)
        if not may_follow(before, event.state):
            raise CorruptRecord(topo.event_subject(job.address), f"state {before} cannot become {event.state}")
        sequence = await self._publisher.append_event(job.address, event, job.sequence)
        if sequence is None:
            return False
        job.set_last(event, sequence)
        return True

    async def take_next_step(self, job: Job) -> None:
        """Take the step that the last event names; it may be repeated."""
        event = job.last
        match event.next:
            case wire.NEXT_STEP_MOVE:
                await self._publisher.enqueue(job.next_entry(), job.address, event.provider, job.lane)
            case wire.NEXT_STEP_LATER:
                due = codec.unix(event.due_time)
                await self._publisher.schedule(job.next_entry(), job.address, event.provider, job.lane, due)
            case wire.NEXT_STEP_BURY:
                await self._publisher.bury(events.dead_letter(job.command, event, job.sequence), job.address)
            case _:
                return

    async def dead_letter_unreadable(self, delivery: Delivery, address: Address, provider: str, why: str) -> None:
        """Write an unreadable record to the dead letters; `why` says what is wrong with it."""
        letter = events.unreadable_letter(address, provider, delivery.data, why, self._now())
        await self._publisher.bury(letter, address)

    async def unchanged(self, job: Job) -> bool:
        """Whether the stream has no newer event than the job's last one; raises StreamDown."""
        _, sequence = await self.last_event(job.address)
        return sequence == job.sequence
