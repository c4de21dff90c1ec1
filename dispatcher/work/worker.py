"""One pod of one provider: draws, paces, sends, and writes down what came of it.

    draw → look at the last event unless it is the first delivery → deadline → breaker → permit → marker → call
         → outcome and verdict in one event → next step → acknowledge

A crash may come at every arrow: the redelivery finds the last event and goes on from there.
"""

import asyncio
import math
import time

import attrs
import structlog

from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer
from dispatcher.work.admitting import Admitting
from dispatcher.work.attempt import Attempt
from dispatcher.work.intake import LAST_FETCH_S, Intake
from dispatcher.work.job_tasks import JobTasks
from dispatcher.work.opening import Opening
from dispatcher.work.settling import Settling
from messaging.documents import Mode
from messaging.stream.ack_extender import extend_acks

_log = structlog.get_logger(__name__)

_MOST_RECOVERIES = 256
_CUT_S = 1.0
"""What is left of the drain budget when calls are cut: they write down what the cut means."""


@attrs.define
class Worker:
    """Runs until told to stop; then finishes what is in flight and gives the rest back."""

    intake: Intake
    opening: Opening
    admitting: Admitting
    settling: Settling
    tasks: JobTasks
    attempt: Attempt
    ack_wait_s: float
    _recoveries: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(_MOST_RECOVERIES))

    async def run(self, stopping: asyncio.Event, drain_s: float) -> None:
        """Work until `stopping`, then drain within `drain_s`."""
        intake = asyncio.create_task(self.intake.run(), name="intake")
        extender = asyncio.create_task(extend_acks(lambda: self.intake.held, self.ack_wait_s), name="ack-extender")
        loop = asyncio.create_task(self._loop(), name="worker-loop")
        stop = asyncio.create_task(stopping.wait(), name="stopping")
        await asyncio.wait({intake, extender, loop, stop}, return_when=asyncio.FIRST_COMPLETED)
        for task in (loop, stop):
            task.cancel()
        await asyncio.wait({loop, stop})
        await self._drain(intake, drain_s)
        extender.cancel()
        for task in (intake, extender, loop):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _loop(self) -> None:
        while True:
            drawn = await self.intake.next()
            job = drawn.job or await self.opening.open(drawn.lane, drawn.delivery)
            if job is None:
                await drawn.delivery.ack()
                self.intake.release(drawn.delivery)
            elif not job.placed:
                await self._recoveries.acquire()
                self.tasks.spawn(self.settling.recover(job), job, self._recoveries)
            else:
                await self.admitting.admit(job)

    async def _drain(self, intake: "asyncio.Task[None]", drain_s: float) -> None:
        """Give back what was not begun, finish what was; the last fetch under way bounds the first part."""
        end = time.monotonic() + drain_s
        self.intake.stop()
        await asyncio.wait({intake}, timeout=LAST_FETCH_S)
        intake.cancel()
        await asyncio.gather(*(delivery.give_back() for delivery in self.intake.held - self.tasks.at_work))
        if late := await self.tasks.finish(max(0.1, end - time.monotonic() - _CUT_S)):
            _log.warning("calls cut short", count=late)
            self.attempt.cut()
            await self.tasks.finish(_CUT_S)
        self.tasks.cancel()


@attrs.define
class Demand:
    """What a pod could use of its provider's rate."""

    rate_per_s: int
    intake: Intake
    pacer: Pacer
    breaker: BreakerSync

    def __call__(self) -> tuple[int, int]:
        """Give (units a second, the cost of the dearest message that waits)."""
        if self.pacer.paused_s > 1.0 or self.breaker.state.mode is Mode.OPEN:
            return 0, 1
        wish = self.intake.waiting + (1 if self.pacer.waiting_cost else 0) + math.ceil(1.2 * self.pacer.rate())
        return min(self.rate_per_s, wish), max(1, self.pacer.waiting_cost)
