"""What a call that is cut short means: unclear when its bytes had left, not sent when they had not."""

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
from dispatcher.work.attempt import Attempt
from dispatcher.work.circumstances import Circumstances
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

ADDRESS = new_address("default", 1_700_000_000_000, "7abc8123456789abcdef")


class Slow:
    """A provider whose answer waits for `answering`, before or after the gate."""

    can_look_up = False

    def __init__(self, *, leaves: bool) -> None:
        self.leaves = leaves
        self.calls = 0
        self.cancelled = self.breaks = False
        self.called, self.answering = asyncio.Event(), asyncio.Event()

    async def send(self, _submission: Submission, gate: WriteGate) -> Outcome:
        self.calls += 1
        if self.leaves:
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
        return Outcome(ACCEPTED, "p-9", "200")

    async def look_up(self, _message_id: str, _traceparent: str) -> Outcome | None:
        return None

    async def aclose(self) -> None:
        pass


@attrs.define
class Pen:
    """An event log that keeps what is written."""

    written: list[wire.Event] = attrs.Factory(list)

    async def start_attempt(self, job: Job, provider: str) -> bool:
        return self._write(job, events.attempt_started(job.command, job.last, provider, job.writer, time.time()))

    async def record(self, job: Job, change: events.Change, ended: events.CallEnd | None = None) -> bool:
        return self._write(job, events.following(job.command, job.last, change, job.writer, time.time(), ended))

    def _write(self, job: Job, event: wire.Event) -> bool:
        job.place(event, job.sequence + 1)
        self.written.append(event)
        return True


class Stage:
    """One attempt of one pod, ready to be made."""

    def __init__(self, *, leaves: bool) -> None:
        self.adapter, self.pen = Slow(leaves=leaves), Pen()
        self.pacer = Pacer(1.0)
        self.pacer.renewed(float("inf"))
        self.pacer.set_share(5)
        self.breaker = Breaker("pod-1", BreakerLimits())
        guard = BreakerSync(cast("BreakerBoard", None), "alpha", self.breaker, self.pacer)
        around = Circumstances(
            Provider("alpha", "simulated", "http://127.0.0.1:9"), "pod-1", Policy((30.0,), (), 5.0), dict, False
        )
        self.attempt = Attempt(
            around, self.adapter, cast("EventLog", self.pen), self.pacer, guard, Tracer(None, ChosenIds(), 0.0)
        )
        command = wire.Command(message_id=ADDRESS.message_id, deadline=codec.timestamp(time.time() + 600))
        self.job = Job(
            delivery=cast("Delivery", object()),
            entry=wire.QueueEntry(command=command),
            address=ADDRESS,
            lane=Lane.NORMAL,
            span=INVALID_SPAN,
            writer=events.Writer("pod-1"),
            placed=True,
        )

    async def make(self) -> wire.Event:
        assert await self.attempt.make(self.job, await self.pacer.acquire(1), 0)
        return self.pen.written[-1]


@pytest.mark.parametrize(("leaves", "outcome", "code"), [(True, AMBIGUOUS, "cut"), (False, TRANSIENT, "not-sent")])
async def test_call_that_is_cut_is_unclear_only_when_its_bytes_have_left(
    *, leaves: bool, outcome: pb.AttemptOutcome.ValueType, code: str
) -> None:
    stage = Stage(leaves=leaves)
    making = asyncio.create_task(stage.make())
    await stage.adapter.called.wait()
    stage.attempt.cut()
    async with asyncio.timeout(20):
        (attempt,) = (await making).attempts
    assert (attempt.outcome, attempt.code) == (outcome, code)


async def test_call_that_would_begin_after_the_cut_is_not_made() -> None:
    stage = Stage(leaves=True)
    stage.attempt.cut()
    async with asyncio.timeout(20):
        (attempt,) = (await stage.make()).attempts
    assert (attempt.outcome, attempt.code, stage.adapter.calls) == (TRANSIENT, "not-sent", 0)


async def test_answer_that_came_before_the_cut_counts() -> None:
    stage = Stage(leaves=True)
    making = asyncio.create_task(stage.make())
    await stage.adapter.called.wait()
    stage.adapter.answering.set()
    async with asyncio.timeout(20):
        event = await making
    stage.attempt.cut()
    assert (event.state, event.attempts[0].provider_message_id) == (pb.MESSAGE_STATE_SENT, "p-9")


async def test_attempt_that_is_cancelled_takes_its_call_with_it() -> None:
    stage = Stage(leaves=True)
    making = asyncio.create_task(stage.make())
    await stage.adapter.called.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    await asyncio.sleep(0)
    assert stage.adapter.cancelled


async def test_probe_that_breaks_is_followed_by_another() -> None:
    stage = Stage(leaves=True)
    stage.adapter.breaks = True
    stage.breaker.adopt(BreakerState(Mode.HALF_OPEN, 1, probe="pod-1"), 0.0)
    for _ in range(2):
        assert stage.breaker.admits()
        with pytest.raises(RuntimeError):
            await stage.attempt.make(stage.job, await stage.pacer.acquire(1), stage.breaker.begin())
