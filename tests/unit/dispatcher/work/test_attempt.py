"""A call that is cut short is unclear when its bytes had left, and not sent when they had not."""

import asyncio
import time
from typing import cast

import attrs
import pytest
from opentelemetry.trace import INVALID_SPAN
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.breaker.breaker import Breaker, BreakerLimits
from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer
from dispatcher.transport.gate import WriteGate
from dispatcher.work.attempt import AttemptRunner
from dispatcher.work.dispatch_context import DispatchContext
from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from dispatcher.work.verdict import Policy
from messaging import codec, events
from messaging.documents import BreakerState, Mode
from messaging.model import Lane, new_address
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream.board import BreakerBoard
from messaging.stream.interface import Delivery
from providers.base import ACCEPTED, AMBIGUOUS, TRANSIENT, Outcome, Submission
from tests.unit.virtual_time import in_virtual_time

ADDRESS = new_address("default", 1_700_000_000_000, "7abc8123456789abcdef")


class SlowProviderClient:
    """A provider that answers when `answering` is set; with `writes` the request passes the gate first."""

    can_look_up = False
    missing_after_s = 0.0

    def __init__(self, *, writes: bool) -> None:
        self.writes = writes
        self.calls = 0
        self.cancelled = self.breaks = False
        self.outcome = Outcome(ACCEPTED, "p-9", "200")
        self.called, self.answering = asyncio.Event(), asyncio.Event()

    async def send(self, _submission: Submission, gate: WriteGate) -> Outcome:
        self.calls += 1
        if self.writes:
            await gate.enter()
            gate.wrote()
        self.called.set()
        if self.breaks:
            raise RuntimeError
        try:
            await self.answering.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.outcome

    async def look_up(self, _message_id: str, _traceparent: str, _gate: WriteGate) -> Outcome | None:
        return None

    async def aclose(self) -> None:
        pass


@attrs.define
class FakeEventLog:
    """An event log that keeps the events in a list."""

    written: list[wire.Event] = attrs.Factory(list)

    async def start_attempt(self, job: Job, provider: str) -> bool:
        return self._write(job, events.attempt_started(job.command, job.last, provider, job.writer, time.time()))

    async def record(self, job: Job, change: events.Change, ended: events.CallEnd | None = None) -> bool:
        return self._write(job, events.following(job.command, job.last, change, job.writer, time.time(), ended))

    def _write(self, job: Job, event: wire.Event) -> bool:
        job.set_last(event, job.sequence + 1)
        self.written.append(event)
        return True


class OneAttempt:
    """One attempt of one pod, ready to run."""

    def __init__(self, *, writes: bool) -> None:
        self.provider_client, self.event_log = SlowProviderClient(writes=writes), FakeEventLog()
        self.pacer = Pacer(1.0)
        self.pacer.renewed(float("inf"))
        self.pacer.set_share(5)
        self.breaker = Breaker("pod-1", BreakerLimits())
        self.breaker_sync = BreakerSync(cast("BreakerBoard", None), "alpha", self.breaker, self.pacer)
        context = DispatchContext(
            provider=Provider("alpha", "simulated", "http://127.0.0.1:9"),
            pod="pod-1",
            policy=Policy((30.0,), (), 5.0),
            provider_facts=dict,
            can_look_up=False,
        )
        self.attempts = AttemptRunner(
            context=context,
            provider_client=self.provider_client,
            event_log=cast("EventLog", self.event_log),
            pacer=self.pacer,
            breaker=self.breaker_sync,
            tracer=Tracer(None, ChosenIds(), 0.0),
        )
        command = wire.Command(message_id=ADDRESS.message_id, deadline=codec.timestamp(time.time() + 600))
        self.job = Job(
            delivery=cast("Delivery", object()),
            entry=wire.QueueEntry(command=command),
            address=ADDRESS,
            lane=Lane.NORMAL,
            span=INVALID_SPAN,
            writer=events.Writer("pod-1"),
            last_is_current=True,
        )

    async def run(self) -> wire.Event:
        assert await self.attempts.run(self.job, await self.pacer.acquire(1), 0)
        return self.event_log.written[-1]


@pytest.mark.parametrize(("writes", "outcome", "code"), [(True, AMBIGUOUS, "cut"), (False, TRANSIENT, "not-sent")])
async def test_call_that_is_cut_is_unclear_only_when_its_bytes_have_left(
    *, writes: bool, outcome: pb.AttemptOutcome.ValueType, code: str
) -> None:
    setup = OneAttempt(writes=writes)
    running = asyncio.create_task(setup.run())
    await setup.provider_client.called.wait()
    setup.attempts.cut_calls()
    async with asyncio.timeout(20):
        (attempt,) = (await running).attempts
    assert (attempt.outcome, attempt.code) == (outcome, code)


async def test_no_call_starts_after_the_cut() -> None:
    setup = OneAttempt(writes=True)
    setup.attempts.cut_calls()
    async with asyncio.timeout(20):
        (attempt,) = (await setup.run()).attempts
    assert (attempt.outcome, attempt.code, setup.provider_client.calls) == (TRANSIENT, "not-sent", 0)


async def test_answer_that_came_before_the_cut_is_recorded() -> None:
    setup = OneAttempt(writes=True)
    running = asyncio.create_task(setup.run())
    await setup.provider_client.called.wait()
    setup.provider_client.answering.set()
    async with asyncio.timeout(20):
        event = await running
    setup.attempts.cut_calls()
    assert (event.state, event.attempts[0].provider_message_id) == (pb.MESSAGE_STATE_SENT, "p-9")


async def test_cancelling_an_attempt_cancels_its_call() -> None:
    setup = OneAttempt(writes=True)
    running = asyncio.create_task(setup.run())
    await setup.provider_client.called.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0)
    assert setup.provider_client.cancelled


@in_virtual_time
async def test_probe_that_raises_permits_another_probe() -> None:
    setup = OneAttempt(writes=True)
    setup.provider_client.breaks = True
    setup.breaker.adopt(BreakerState(Mode.HALF_OPEN, 1, probe="pod-1"), 0.0)
    for _ in range(2):
        assert setup.breaker.admits()
        with pytest.raises(RuntimeError):
            await setup.attempts.run(setup.job, await setup.pacer.acquire(1), setup.breaker.begin())


@pytest.mark.parametrize(("stalled", "mode"), [(True, Mode.CLOSED), (False, Mode.OPEN)])
@in_virtual_time
async def test_calls_that_our_own_standstill_ended_do_not_open_the_breaker(*, stalled: bool, mode: Mode) -> None:
    setup = OneAttempt(writes=True)
    setup.provider_client.outcome = Outcome(AMBIGUOUS, code="timeout", stalled=stalled)
    setup.provider_client.answering.set()
    for _ in range(BreakerLimits().failures):
        generation = setup.breaker.begin()
        change = None

        def note(found: int, *, failed: bool | None, code: str) -> None:
            nonlocal change
            change = setup.breaker.record(found, 0.0, failed=failed)

        setup.breaker_sync.record = note  # type: ignore[method-assign, assignment]
        setup.job.set_last(None, 0)
        await setup.attempts.run(setup.job, await setup.pacer.acquire(1), generation)
        if change is not None:
            setup.breaker.adopt(change, 0.0)
    assert setup.breaker.state.mode is mode
