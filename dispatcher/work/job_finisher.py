"""Takes a job from its last event to its acknowledgement, also after a redelivery."""

import asyncio
from functools import partial
from typing import Protocol

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from dispatcher.work.recovery import Recovery
from dispatcher.work.redelivery import RedeliveryAction, action_for
from messaging import codec
from messaging.errors import StreamDown
from messaging.runtime.backoff import Backoff, retry
from messaging.stream.interface import Delivery

_STREAM_AWAY = Backoff(first_s=0.5, longest_s=0.5)


class JobHolder(Protocol):
    """What holds the jobs of a pod; an intake is one."""

    @property
    def stopping(self) -> bool:
        """Whether it hands out no more jobs."""

    def put_back(self, job: Job) -> None:
        """Take a job that is to start again."""

    def release(self, delivery: Delivery) -> None:
        """Stop holding a delivery."""


@attrs.define
class JobFinisher:
    """Ends this pod's part in each job."""

    intake: JobHolder
    event_log: EventLog
    recovery: Recovery

    async def finish(self, job: Job) -> None:
        """Take the step that the last event names, then acknowledge; after AGAIN the job starts again here."""
        if job.last.next == wire.NEXT_STEP_AGAIN:
            await self._start_again(job)
            return
        await self.event_log.take_next_step(job)
        await self._acknowledge(job)

    async def resume(self, job: Job) -> None:
        """Read the last event of a job from the stream and continue from there."""
        while True:
            last, sequence = await retry(partial(self.event_log.last_event, job.address), _STREAM_AWAY, StreamDown)
            job.set_last(last, sequence)
            match action_for(job.entry.last_sequence, last, sequence):
                case RedeliveryAction.START_ATTEMPT:
                    await self._start_again(job)
                    return
                case RedeliveryAction.ACKNOWLEDGE:
                    await self._acknowledge(job)
                    return
                case RedeliveryAction.REPEAT_STEP:
                    await self.finish(job)
                    return
                case RedeliveryAction.AWAIT_ATTEMPT:
                    written = await self.recovery.await_attempt(job)
                case RedeliveryAction.RESOLVE_HELD:
                    written = await self.recovery.resolve_held(job)
            if written:
                await self.finish(job)
                return

    async def _start_again(self, job: Job) -> None:
        """Queue the job for another start: here, or in another pod when this one is stopping."""
        again = job.last.next == wire.NEXT_STEP_AGAIN and job.last.HasField("due_time")
        if self.intake.stopping:
            await self.give_back(job)
        elif (wait_s := codec.unix(job.last.due_time) - self.recovery.context.now()) > 0 and again:
            asyncio.get_running_loop().call_later(wait_s, self.intake.put_back, job)
        else:
            self.intake.put_back(job)

    async def _acknowledge(self, job: Job) -> None:
        await job.delivery.ack()
        self.release(job)

    async def give_back(self, job: Job) -> None:
        """Let the stream deliver the message to another pod at once."""
        await job.delivery.give_back()
        self.release(job)

    async def bury(self, job: Job, why: str) -> None:
        """Put a job with a record that makes no sense into the dead letters; `why` says what is wrong."""
        provider = job.delivery.subject.split(".")[2]
        await self.event_log.dead_letter_unreadable(job.delivery, job.address, provider, why)
        await self._acknowledge(job)

    def release(self, job: Job) -> None:
        """End the job's span, and stop extending its acknowledgement deadline."""
        job.span.end()
        self.intake.release(job.delivery)
