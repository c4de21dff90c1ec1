"""One pod of one provider: draws, paces, sends, and writes down what came of it.

    draw → look back when it is not the first delivery → deadline → breaker → permit → marker → call
         → outcome and verdict in one event → next step → acknowledge

Every comma may be a crash: a redelivery finds the last event and goes on from there.
"""

import asyncio
import math
import time
from collections.abc import Coroutine, Iterable
from typing import Any

import attrs
import structlog
from opentelemetry.trace import SpanKind
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.breaker.breaker import Mode
from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer
from dispatcher.rate.window import Permit
from dispatcher.work.attempt import Attempt, Circumstances
from dispatcher.work.event_log import EventLog
from dispatcher.work.intake import Intake
from dispatcher.work.job import Job
from dispatcher.work.recovery import Recovery
from dispatcher.work.redelivery import Meaning, look_back
from messaging import codec
from messaging.errors import CorruptRecord, StreamDown
from messaging.model import Lane, parse_address
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer
from messaging.stream.ack_extender import keep
from messaging.stream.consumer import Delivery

_log = structlog.get_logger(__name__)

_ASIDE_EVERY_S = 0.1
_MOST_RECOVERIES = 256
_PATIENCE_WITH_STREAM_S = 0.5
_FETCH_S = 1.2


@attrs.define
class Worker:
    """Runs until told to stop; then finishes what is in flight and gives the rest back."""

    circumstances: Circumstances
    intake: Intake
    pacer: Pacer
    guard: BreakerSync
    scribe: EventLog
    attempt: Attempt
    recovery: Recovery
    tracer: Tracer
    ack_wait_s: float
    events_kept_s: float
    _slots: asyncio.Semaphore = attrs.field(init=False)
    _recoveries: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(_MOST_RECOVERIES))
    _jobs: dict[int, Job] = attrs.field(init=False, factory=dict)
    _tasks: dict[asyncio.Task[None], Job] = attrs.field(init=False, factory=dict)
    _opening: Delivery | None = attrs.field(init=False, default=None)
    _stopping: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.circumstances.provider.max_in_flight)

    def demand(self) -> tuple[int, int]:
        """Say what this pod could use: (units a second, the dearest message that waits)."""
        provider = self.circumstances.provider
        if self.pacer.paused_s > 1.0 or self.guard.breaker.shared.state is Mode.OPEN:
            return 0, 1
        wish = self.intake.waiting + (1 if self.pacer.waiting_cost else 0) + math.ceil(1.2 * self.pacer.rate())
        return min(provider.rate_per_s, wish), max(1, self.pacer.waiting_cost)

    async def run(self, stopping: asyncio.Event, drain_s: float) -> None:
        """Work until `stopping`, then drain within `drain_s`."""
        intake = asyncio.create_task(self.intake.run(), name="intake")
        keeper = asyncio.create_task(keep(self._held, self.ack_wait_s), name="keeper")
        loop = asyncio.create_task(self._loop(), name="worker-loop")
        stop = asyncio.create_task(stopping.wait(), name="stopping")
        await asyncio.wait({intake, keeper, loop, stop}, return_when=asyncio.FIRST_COMPLETED)
        for task in (loop, stop):
            task.cancel()
        await asyncio.wait({loop, stop})
        await self._drain(intake, drain_s)
        keeper.cancel()
        for task in (intake, keeper, loop):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _drain(self, intake: "asyncio.Task[None]", drain_s: float) -> None:
        """Give back what was not begun, finish what was; the last fetch under way bounds the first part."""
        end = time.monotonic() + drain_s
        self._stopping = True
        self.intake.stop()
        await asyncio.wait({intake}, timeout=_FETCH_S)
        intake.cancel()
        begun = {id(job.delivery) for job in self._tasks.values()}
        await asyncio.gather(*(delivery.give_back() for delivery in self._held() if id(delivery) not in begun))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=max(0.1, end - time.monotonic() - 1.0))
            if late:
                _log.warning("calls cut short", count=len(late))
                self.attempt.cut()
                await asyncio.wait(late, timeout=1.0)
        for task in self._tasks:
            task.cancel()

    def _held(self) -> Iterable[Delivery]:
        """Give everything that was drawn and is not done with: it waits, is being read, or is at work."""
        opening = () if self._opening is None else (self._opening,)
        everything = (*self.intake.held(), *opening, *(job.delivery for job in self._jobs.values()))
        return {id(delivery): delivery for delivery in everything}.values()

    async def _loop(self) -> None:
        while True:
            lane, delivery = await self.intake.next()
            self._opening = delivery
            job = self._jobs.get(id(delivery)) or await self._open(lane, delivery)
            self._opening = None
            if job is None:
                continue
            if job.sequence < 0:
                await self._recoveries.acquire()
                self._spawn(self._recover(job), job, self._recoveries)
                continue
            await self._admit(job)

    async def _open(self, lane: Lane, delivery: Delivery) -> Job | None:
        """Read a delivery; one that cannot be read is buried."""
        provider = self.circumstances.provider.name
        try:
            address = parse_address(delivery.subject)
        except CorruptRecord as exc:
            _log.error("a queue entry without an address is dropped", subject=delivery.subject, error=str(exc))
            await delivery.ack()
            return None
        try:
            entry = codec.decode(wire.QueueEntry, delivery.subject, delivery.data)
        except CorruptRecord as exc:
            _log.error("unreadable queue entry", message_id=address.message_id, error=str(exc))
            await self.scribe.bury_unreadable(delivery, address, provider, exc.why)
            await delivery.ack()
            return None
        if codec.unix(entry.command.deadline) + self.events_kept_s / 2 < time.time():
            # Long over; its events may be forgotten, and without them it would look as if it had never been sent.
            _log.warning("a stale queue entry is forgotten", message_id=address.message_id)
            await delivery.ack()
            return None
        parent = delivery.headers.get(codec.TRACEPARENT) or entry.command.traceparent
        span = self.tracer.start(
            "consume",
            telemetry.caller_of(parent),
            SpanKind.CONSUMER,
            attributes={"sms.message_id": address.message_id, "sms.provider": provider, "sms.lane": lane},
        )
        # A first delivery needs no look back: the marker's condition finds out if the message has moved on.
        known = delivery.delivered == 1 and not entry.last.held
        job = Job(
            delivery,
            entry.command,
            address,
            lane,
            entry.last,
            entry.last_sequence if known else -1,
            span,
            telemetry.traceparent_of(span),
            entry.last_sequence,
        )
        self._jobs[id(delivery)] = job
        return job

    async def _admit(self, job: Job) -> None:
        """Bring a ready job to its attempt: through deadline, breaker and pacer."""
        cost = self.circumstances.cost(job.command)
        while True:
            if time.time() >= job.deadline:
                await self._slots.acquire()
                self._spawn(self._expire(job), job, self._slots)
                return
            if not self.guard.breaker.admits():
                if await self._aside(job):
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
            if self.guard.breaker.admits() and time.time() < job.deadline:
                self._spawn(self._send(job, permit, self.guard.breaker.begin()), job, self._slots)
                return
            self.pacer.give_back(permit)
            self._slots.release()

    async def _aside(self, job: Job) -> bool:
        """Deal with a job that waits behind a breaker; True when it is off our hands."""
        shared = self.guard.breaker.shared
        target = self.circumstances.room_elsewhere(job.command, job.progress) if shared.state is Mode.OPEN else None
        if target is not None:
            await self._slots.acquire()
            self._spawn(self._move(job, target), job, self._slots)
            return True
        await asyncio.sleep(_ASIDE_EVERY_S)
        if shared.state is Mode.HALF_OPEN and shared.probe != self.circumstances.pod:
            # The probing pod needs a message to probe with.
            await job.delivery.give_back()
            self._close(job)
            await asyncio.sleep(5 * _ASIDE_EVERY_S)
            return True
        return False

    def _spawn(self, work: Coroutine[Any, Any, None], job: Job, slots: asyncio.Semaphore) -> None:
        task = asyncio.create_task(self._guarded(work, job), name=f"job-{job.command.message_id}")
        self._tasks[task] = job

        def done(finished: "asyncio.Task[None]") -> None:
            del self._tasks[finished]
            slots.release()

        task.add_done_callback(done)

    async def _guarded(self, work: Coroutine[Any, Any, None], job: Job) -> None:
        """Catch what goes wrong with one job: it is logged, and the redelivery tries again."""
        try:
            await work
        except (StreamDown, CorruptRecord) as exc:
            _log.warning("left for redelivery", message_id=job.command.message_id, error=str(exc))
            self._close(job)
        except Exception as exc:  # noqa: BLE001 - the outermost loop
            _log.exception("a job broke", message_id=job.command.message_id, error=type(exc).__name__)
            self._close(job)

    async def _send(self, job: Job, permit: Permit, generation: int) -> None:
        if await self.attempt.make(job, permit, generation):
            await self._settle(job)
        else:
            await self._recover(job)

    async def _move(self, job: Job, target: str) -> None:
        if await self.recovery.step_aside(job, target):
            await self._settle(job)
        else:
            await self._recover(job)

    async def _expire(self, job: Job) -> None:
        if await self.recovery.expire(job):
            await self._settle(job)
        else:
            await self._recover(job)

    async def _recover(self, job: Job) -> None:
        """Find out what a message that we cannot place has come to, and go on from there."""
        while True:
            try:
                last, sequence = await self.scribe.last_event(job.address)
            except StreamDown:
                await asyncio.sleep(_PATIENCE_WITH_STREAM_S)
                continue
            meaning = look_back(job.entry_sequence, last, sequence)
            job.last, job.sequence = last or wire.Event(), sequence
            match meaning:
                case Meaning.READY:
                    await self._return(job)
                    return
                case Meaning.FORGET:
                    await self._finish(job)
                    return
                case Meaning.REPEAT:
                    await self._settle(job)
                    return
                case Meaning.UNCLEAR:
                    settled = await self.recovery.second_look(job)
                case Meaning.HELD:
                    settled = await self.recovery.ask_again(job)
            if settled:
                await self._settle(job)
                return

    async def _settle(self, job: Job) -> None:
        """Take the step that the last event names and acknowledge; AGAIN keeps the message here."""
        if job.last.next == wire.NEXT_STEP_AGAIN:
            await self._return(job)
            return
        await self.scribe.follow(job)
        await self._finish(job)

    async def _return(self, job: Job) -> None:
        """Let the message be admitted again, here or, when we stop, in another pod."""
        if self._stopping:
            await job.delivery.give_back()
            self._close(job)
        else:
            self.intake.put_back(job.lane, job.delivery)

    async def _finish(self, job: Job) -> None:
        await job.delivery.ack()
        self._close(job)

    def _close(self, job: Job) -> None:
        job.span.end()
        self._jobs.pop(id(job.delivery), None)
