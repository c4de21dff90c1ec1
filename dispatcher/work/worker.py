"""Runs one pod of one provider: draws messages, sends them at the permitted rate, and records the outcomes.

    draw → read the last event, unless it is the first delivery → deadline → breaker → permit → marker → call
         → outcome and verdict in one event → next step → acknowledge

After a crash at any arrow, the redelivery reads the last event and continues from there.
"""

import asyncio
import math
import time

import attrs
import structlog

from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer
from dispatcher.work.attempt import AttemptRunner
from dispatcher.work.intake import LAST_FETCH_S, Intake
from dispatcher.work.job_finisher import JobFinisher
from dispatcher.work.job_reader import JobReader
from dispatcher.work.job_starter import JobStarter
from dispatcher.work.job_tasks import JobTasks
from messaging.documents import Mode
from messaging.stream.ack_extender import extend_acks

_log = structlog.get_logger(__name__)

_MOST_RECOVERIES = 256
_CLEAR_IN = 4
"""A lane asks for a rate at which what waits is sent within so small a part of a second, as far as it may."""
_CUT_S = 1.0
"""The last part of the drain budget: calls are cut when it begins, and record their outcome within it."""


@attrs.define(kw_only=True)
class Worker:
    """Runs until it is stopped; then finishes the running jobs and gives the other messages back."""

    intake: Intake
    reader: JobReader
    starter: JobStarter
    finisher: JobFinisher
    tasks: JobTasks
    attempts: AttemptRunner
    ack_wait_s: float
    _recoveries: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(_MOST_RECOVERIES))

    async def run(self, stopping: asyncio.Event, drain_s: float) -> None:
        """Work until `stopping`, then drain within `drain_s`."""
        intake = asyncio.create_task(self.intake.run(), name="intake")
        extender = asyncio.create_task(
            extend_acks(lambda: self.intake.outstanding, self.ack_wait_s), name="ack-extender"
        )
        loop = asyncio.create_task(self._loop(), name="worker-loop")
        stop = asyncio.create_task(stopping.wait(), name="stopping")
        try:
            await asyncio.wait({intake, extender, loop, stop}, return_when=asyncio.FIRST_COMPLETED)
            for task in (loop, stop):
                task.cancel()
            await asyncio.wait({loop, stop})
            await self._drain(intake, drain_s)
        finally:  # also when this is cancelled, because another part of the lane has failed
            for task in (intake, extender, loop, stop):
                task.cancel()
            self.tasks.cancel()
            await self.intake.close()
        for task in (intake, extender, loop):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _loop(self) -> None:
        while True:
            drawn = await self.intake.next()
            job = drawn.job or await self.reader.read(drawn.lane, drawn.delivery)
            if job is None:
                await drawn.delivery.ack()
                self.intake.release(drawn.delivery)
            elif not job.last_is_current:
                await self._recoveries.acquire()
                self.tasks.spawn(self.finisher.resume(job), job, self._recoveries)
            else:
                await self.starter.start(job)

    async def _drain(self, intake: "asyncio.Task[None]", drain_s: float) -> None:
        """Give back the messages that have no task and wait for the tasks; at most LAST_FETCH_S goes to the intake."""
        end = time.monotonic() + drain_s
        self.intake.stop()
        await asyncio.wait({intake}, timeout=LAST_FETCH_S)
        intake.cancel()
        await asyncio.gather(*(delivery.give_back() for delivery in self.intake.outstanding - self.tasks.running))
        if late := await self.tasks.wait(max(0.1, end - time.monotonic() - _CUT_S)):
            _log.warning("calls cut short", count=late)
            self.attempts.cut_calls()
            await self.tasks.wait(_CUT_S)
        self.tasks.cancel()


@attrs.define
class Demand:
    """How much of its provider's rate a pod could use."""

    rate_per_s: int
    intake: Intake
    pacer: Pacer
    breaker: BreakerSync

    def idle(self) -> bool:
        """Whether the pod holds no message, knows of none, and has sent none for a second."""
        at_work = self.intake.outstanding or self.intake.waiting or self.pacer.waiting_cost
        return not at_work and not self.pacer.rate() and not self.pacer.sent_in_last_second()

    def __call__(self) -> tuple[int, int]:
        """Return (units a second, the cost of the message that waits for a permit, at least 1)."""
        if self.pacer.paused_s > 1.0 or self.breaker.silent:
            return 0, 1
        if self.breaker.state.mode is Mode.OPEN:
            return (1 if self.pacer.waiting_cost else 0), 1  # a look-up may wait for a permit
        waiting = self.intake.waiting + (1 if self.pacer.waiting_cost else 0)
        units = _CLEAR_IN * waiting + math.ceil(1.2 * self.pacer.rate())
        return min(self.rate_per_s, units), max(1, self.pacer.waiting_cost)
