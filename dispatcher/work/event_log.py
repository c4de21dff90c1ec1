"""Writes what happened to a message and takes the step that follows, in the order that survives a crash.

Event first, by compare-and-set; then the step that the event names, which may be repeated; then the acknowledgement.
"""

import time

from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.job import Job
from messaging import codec
from messaging.errors import CorruptRecord
from messaging.lifecycle import may_follow
from messaging.model import Address
from messaging.story import first_state
from messaging.stream import topology as topo
from messaging.stream.connection import Connection
from messaging.stream.consumer import Delivery
from messaging.stream.publisher import Publisher


class EventLog:
    """The dispatcher's pen."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)

    async def last_event(self, address: Address) -> tuple[wire.Event | None, int]:
        """Read the last event of a message and its sequence, from the leader; raises StreamDown."""
        record = await self._connection.last(topo.EVENT, topo.event_subject(address))
        if record is None:
            return None, 0
        return codec.decode(wire.Event, record.subject, record.data), record.sequence

    async def record(self, job: Job, event: wire.Event, *, budget_s: float | None = None) -> bool:
        """Write the job's next event; False when another writer was faster. Repeats until it is known."""
        before = job.last.state if job.sequence else first_state(job.command)
        if not may_follow(before, event.state):
            raise CorruptRecord(topo.event_subject(job.address), f"state {before} cannot become {event.state}")
        sequence = await self._publisher.append_event(job.address, event, job.sequence, budget_s=budget_s)
        if sequence is None:
            return False
        job.last, job.sequence = event, sequence
        return True

    async def follow(self, job: Job) -> None:
        """Take the step that the last event names; repeating it is harmless."""
        event = job.last
        match event.next:
            case wire.NEXT_STEP_MOVE:
                await self._publisher.enqueue(job.entry(), job.address, event.provider, job.lane)
            case wire.NEXT_STEP_LATER:
                due = codec.unix(event.due_time)
                await self._publisher.schedule(job.entry(), job.address, event.provider, job.lane, due)
            case wire.NEXT_STEP_BURY:
                await self._publisher.bury(
                    wire.DeadLetter(
                        command=job.command,
                        last=event,
                        last_sequence=job.sequence,
                        reason=event.reason,
                        time=event.time,
                    ),
                    job.address,
                )
            case _:
                return

    async def bury_unreadable(self, delivery: Delivery, address: Address, provider: str, why: str) -> None:
        """Keep a record that nobody can read among the dead letters."""
        letter = wire.DeadLetter(
            command=wire.Command(message_id=address.message_id, client=address.client, provider=provider),
            reason="UNREADABLE",
            unreadable=delivery.data,
            time=codec.timestamp(time.time()),
        )
        letter.last.detail = why
        await self._publisher.bury(letter, address)

    async def still(self, job: Job) -> bool:
        """Whether the job's last event is still the last one; raises StreamDown."""
        _, sequence = await self.last_event(job.address)
        return sequence == job.sequence
