"""What follows an event: the next step and the acknowledgement; and finding one's place again after a redelivery."""

from functools import partial

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.event_log import EventLog
from dispatcher.work.intake import Intake
from dispatcher.work.job import Job
from dispatcher.work.recovery import Recovery
from dispatcher.work.redelivery import Meaning, meaning_of
from messaging.errors import StreamDown
from messaging.runtime.backoff import Backoff, retry

_STREAM_AWAY = Backoff(first_s=0.5, longest_s=0.5)


@attrs.define
class Settling:
    """Brings a job from its last event to the end of this pod's part in it."""

    intake: Intake
    event_log: EventLog
    recovery: Recovery

    async def settle(self, job: Job) -> None:
        """Take the step that the last event names and acknowledge; after AGAIN the message stays here."""
        if job.last.next == wire.NEXT_STEP_AGAIN:
            await self._admit_again(job)
            return
        await self.event_log.take_next_step(job)
        await self._finish(job)

    async def recover(self, job: Job) -> None:
        """Read what a message that we cannot place has come to, and go on from there."""
        while True:
            last, sequence = await retry(partial(self.event_log.last_event, job.address), _STREAM_AWAY, StreamDown)
            job.place(last, sequence)
            match meaning_of(job.entry.last_sequence, last, sequence):
                case Meaning.READY:
                    await self._admit_again(job)
                    return
                case Meaning.FORGET:
                    await self._finish(job)
                    return
                case Meaning.REPEAT:
                    await self.settle(job)
                    return
                case Meaning.UNCLEAR:
                    settled = await self.recovery.second_look(job)
                case Meaning.HELD:
                    settled = await self.recovery.ask_again(job)
            if settled:
                await self.settle(job)
                return

    async def _admit_again(self, job: Job) -> None:
        """Let the message be admitted again: here, or in another pod when this one stops."""
        if self.intake.stopping:
            await self.give_back(job)
        else:
            self.intake.put_back(job)

    async def _finish(self, job: Job) -> None:
        await job.delivery.ack()
        self.let_go(job)

    async def give_back(self, job: Job) -> None:
        """Let another pod have the message at once."""
        await job.delivery.give_back()
        self.let_go(job)

    def let_go(self, job: Job) -> None:
        """Hold the message no longer."""
        job.span.end()
        self.intake.release(job.delivery)
