"""Starts a job's attempt as soon as deadline, breaker and pacer allow it."""

import asyncio

import attrs

from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer
from dispatcher.rate.window import Permit
from dispatcher.work.attempt import AttemptRunner
from dispatcher.work.dispatch_context import DispatchContext
from dispatcher.work.intake import Intake
from dispatcher.work.job import Job
from dispatcher.work.job_finisher import JobFinisher
from dispatcher.work.job_tasks import JobTasks
from dispatcher.work.recovery import Recovery
from dispatcher.work.shedding import Traffic
from messaging.documents import Mode
from messaging.routing import Choice
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer

_BREAKER_CHECK_S = 0.1


@attrs.define(kw_only=True)
class JobStarter:
    """Starts one job at a time; each started job continues in its own task."""

    context: DispatchContext
    pacer: Pacer
    breaker: BreakerSync
    attempts: AttemptRunner
    recovery: Recovery
    finisher: JobFinisher
    tasks: JobTasks
    tracer: Tracer
    intake: Intake
    _slots: asyncio.Semaphore = attrs.field(init=False)

    @_slots.default
    def _limit(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.context.provider.max_in_flight)

    async def start(self, job: Job) -> None:
        """Return when the job has a task (attempt, move or expiry) or was given back to the stream."""
        cost, at_once = self.context.cost(job.command), self.context.provider.at_once(job.lane)
        if (choice := self.context.provider_when_due(job)) is not None:
            await self._slots.acquire()
            self.tasks.spawn(self._reroute(job, choice), job, self._slots)
            return
        while True:
            left_s = job.deadline - self.context.now()
            if (traffic := self._traffic()).is_too_late(left_s):
                self.intake.note_late(job.lane)
                await self._slots.acquire()
                self.tasks.spawn(self._expire(job, traffic.why_ended(left_s)), job, self._slots)
                return
            if not self.breaker.admits():
                if await self._leave_breaker(job):
                    return
                continue
            await self._slots.acquire()
            permit: Permit | None = None
            try:
                with telemetry.span(self.tracer, "pace", job.span):
                    async with asyncio.timeout(job.deadline - self.context.now()):
                        permit = await self.pacer.acquire(cost, at_once=at_once)
            except TimeoutError:
                continue
            finally:
                if permit is None:
                    self._slots.release()
            if self.breaker.admits() and self.context.now() < job.deadline:
                self.intake.note_in_time(job.lane)
                work = self._send(job, permit, self.breaker.begin())
                self.tasks.spawn(work, job, self._slots)
                return
            self.pacer.give_back(permit)
            self._slots.release()

    async def _leave_breaker(self, job: Job) -> bool:
        """Move or give back a job that the breaker does not admit; False when the job has to wait here."""
        state = self.breaker.state
        leaves = state.mode is Mode.OPEN or self.breaker.silent
        target = self.context.provider_with_room(job.command, job.progress) if leaves else None
        if target is not None:
            await self._slots.acquire()
            self.tasks.spawn(self._move(job, target), job, self._slots)
            return True
        await asyncio.sleep(_BREAKER_CHECK_S)
        if state.mode is Mode.HALF_OPEN and state.probe != self.context.pod:
            # The probing pod needs a message to probe with.
            await self.finisher.give_back(job)
            await asyncio.sleep(5 * _BREAKER_CHECK_S)
            return True
        return False

    async def _send(self, job: Job, permit: Permit, generation: int) -> None:
        await self._continue(job, written=await self.attempts.run(job, permit, generation))

    async def _move(self, job: Job, target: str) -> None:
        await self._continue(job, written=await self.recovery.move(job, target))

    async def _reroute(self, job: Job, choice: Choice) -> None:
        await self._continue(job, written=await self.recovery.reroute(job, choice, "ROUTED_WHEN_DUE"))

    async def _expire(self, job: Job, why: str) -> None:
        await self._continue(job, written=await self.recovery.expire(job, why))

    def _traffic(self) -> Traffic:
        pacer = self.pacer
        return Traffic(self.context.provider.name, self.breaker.state, pacer.paused_s, pacer.share, self.intake.waiting)

    async def _continue(self, job: Job, *, written: bool) -> None:
        """Continue from the event that was written, or from the one that another writer appended first."""
        if written:
            await self.finisher.finish(job)
        else:
            await self.finisher.resume(job)
