"""Brings a job to its attempt: through deadline, breaker and pacer."""

import asyncio
import time

import attrs

from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer
from dispatcher.rate.window import Permit
from dispatcher.work.attempt import Attempt
from dispatcher.work.circumstances import Circumstances
from dispatcher.work.job import Job
from dispatcher.work.job_tasks import JobTasks
from dispatcher.work.recovery import Recovery
from dispatcher.work.settling import Settling
from messaging.documents import Mode
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer

_ASIDE_EVERY_S = 0.1


@attrs.define
class Admitting:
    """Admits one job after the other; what was admitted goes on in a task of its own."""

    circumstances: Circumstances
    pacer: Pacer
    breaker: BreakerSync
    attempt: Attempt
    recovery: Recovery
    settling: Settling
    tasks: JobTasks
    tracer: Tracer
    _slots: asyncio.Semaphore = attrs.field(init=False)

    @_slots.default
    def _limit(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.circumstances.provider.max_in_flight)

    async def admit(self, job: Job) -> None:
        """Return when the job is at work, moved aside, or given back."""
        cost = self.circumstances.cost(job.command)
        while True:
            if time.time() >= job.deadline:
                await self._slots.acquire()
                self.tasks.spawn(self._expire(job), job, self._slots)
                return
            if not self.breaker.admits():
                if await self._step_aside(job):
                    return
                continue
            await self._slots.acquire()
            permit: Permit | None = None
            try:
                with telemetry.span(self.tracer, "pace", job.span):
                    async with asyncio.timeout(job.deadline - time.time()):
                        permit = await self.pacer.acquire(cost)
            except TimeoutError:
                continue
            finally:
                if permit is None:
                    self._slots.release()
            if self.breaker.admits() and time.time() < job.deadline:
                work = self._send(job, permit, self.breaker.begin())
                self.tasks.spawn(work, job, self._slots)
                return
            self.pacer.give_back(permit)
            self._slots.release()

    async def _step_aside(self, job: Job) -> bool:
        """Deal with a job that waits behind a breaker; True when it is off our hands."""
        state = self.breaker.state
        target = self.circumstances.room_elsewhere(job.command, job.progress) if state.mode is Mode.OPEN else None
        if target is not None:
            await self._slots.acquire()
            self.tasks.spawn(self._move(job, target), job, self._slots)
            return True
        await asyncio.sleep(_ASIDE_EVERY_S)
        if state.mode is Mode.HALF_OPEN and state.probe != self.circumstances.pod:
            # The probing pod needs a message to probe with.
            await self.settling.give_back(job)
            await asyncio.sleep(5 * _ASIDE_EVERY_S)
            return True
        return False

    async def _send(self, job: Job, permit: Permit, generation: int) -> None:
        await self._follow_up(job, written=await self.attempt.make(job, permit, generation))

    async def _move(self, job: Job, target: str) -> None:
        await self._follow_up(job, written=await self.recovery.step_aside(job, target))

    async def _expire(self, job: Job) -> None:
        await self._follow_up(job, written=await self.recovery.expire(job))

    async def _follow_up(self, job: Job, *, written: bool) -> None:
        """Go on from the event that we wrote, or from the one that another writer put in our way."""
        if written:
            await self.settling.settle(job)
        else:
            await self.settling.recover(job)
