"""One attempt: marker, call, outcome. Between marker and outcome nobody else may send the message."""

import asyncio
import time

import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer, PermitGate
from dispatcher.rate.window import Permit
from dispatcher.transport.client import ProviderClient
from dispatcher.transport.gate import GateClosed
from dispatcher.work.circumstances import Circumstances
from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from dispatcher.work.verdict import Verdict, judge, not_sent
from messaging.lifecycle import may_follow
from messaging.model import outcome_name
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer
from providers.base import AMBIGUOUS, TRANSIENT, Outcome, Submission

_log = structlog.get_logger(__name__)

GATE_S = 2.0
"""How long a marker may stand before the bytes leave; a second look waits for this and the call's time-out."""

_FAILED: dict[int, bool | None] = {
    pb.ATTEMPT_OUTCOME_ACCEPTED: False,
    pb.ATTEMPT_OUTCOME_THROTTLED: None,
    pb.ATTEMPT_OUTCOME_TRANSIENT: True,
    pb.ATTEMPT_OUTCOME_PERMANENT: None,
    pb.ATTEMPT_OUTCOME_PROVIDER_FAULT: True,
    pb.ATTEMPT_OUTCOME_AMBIGUOUS: True,
}
"""What an outcome tells the breaker: a failure, a success, or nothing."""


class Attempt:
    """Makes attempts for one pod."""

    def __init__(
        self,
        circumstances: Circumstances,
        adapter: ProviderClient,
        event_log: EventLog,
        pacer: Pacer,
        breaker: BreakerSync,
        tracer: Tracer,
    ) -> None:
        self._circumstances = circumstances
        self._adapter = adapter
        self._event_log = event_log
        self._pacer = pacer
        self._breaker = breaker
        self._tracer = tracer
        self._calls: set[asyncio.Timeout] = set()
        self._cut = False

    def cut(self) -> None:
        """End every call now: those whose bytes have left become unclear."""
        self._cut = True
        for limit in self._calls:
            limit.reschedule(0)

    async def make(self, job: Job, permit: Permit, generation: int) -> bool:
        """Make one attempt and write down what follows; False when another pod has the message."""
        began = time.monotonic()
        gate = PermitGate(self._pacer, permit, began + GATE_S, job.deadline, time.monotonic, time.time)
        try:
            if not await self._event_log.start_attempt(job, self._circumstances.provider.name):
                self._breaker.abandon(generation)
                return False
            outcome = await self._call(job, gate)
        except BaseException:
            self._breaker.abandon(generation)  # or a probe that broke would keep a half-open breaker for ever
            raise
        finally:
            gate.close()
        if outcome is None:
            self._breaker.abandon(generation)
            outcome = Outcome(TRANSIENT, code="not-sent", detail="the right to send was lost before the bytes left")
            verdict = not_sent(self._circumstances.case(job), outcome.detail)
            return await self._event_log.record(job, verdict, outcome)
        self._breaker.record(generation, failed=_FAILED[outcome.kind])
        verdict = judge(outcome, self._circumstances.case(job))
        if verdict.pause_s:
            self._breaker.pause(verdict.pause_s)
        self._log(job, outcome, verdict, time.monotonic() - began)
        if await self._event_log.record(job, verdict, outcome):
            return True
        return await self._late_truth(job, outcome)

    async def _call(self, job: Job, gate: PermitGate) -> Outcome | None:
        """Call the provider; None when the gate let nothing out."""
        command, provider = job.command, self._circumstances.provider
        with telemetry.span(
            self._tracer,
            "send",
            job.span,
            SpanKind.CLIENT,
            attributes={
                "sms.message_id": command.message_id,
                "sms.provider": provider.name,
                "sms.attempt": job.last.attempt_count,
            },
        ) as span:
            submission = Submission(
                command.message_id,
                command.recipient,
                command.body,
                command.sender,
                command.segments,
                command.encoding == pb.ENCODING_UCS2,
                job.last.attempt_count,
                max(0.0, job.deadline - time.time()),
                telemetry.traceparent_of(span),
            )
            outcome = await self._until_cut(submission, gate)
            name = "not sent" if outcome is None else outcome_name(outcome.kind)
            span.set_attribute("sms.outcome", name)
            if outcome is None or _FAILED[outcome.kind]:
                span.set_status(Status(StatusCode.ERROR, name))
            return outcome

    async def _until_cut(self, submission: Submission, gate: PermitGate) -> Outcome | None:
        if self._cut:
            return None
        # Not a task that is cancelled: this one goes on and writes down what the cut means.
        limit = asyncio.timeout(None)
        self._calls.add(limit)
        try:
            async with limit:
                return await self._adapter.send(submission, gate)
        except GateClosed:
            return None
        except TimeoutError:
            if not limit.expired():
                raise
            if not gate.passed:
                return None
            return Outcome(AMBIGUOUS, code="cut", detail="this process stopped before the answer came")
        finally:
            self._calls.discard(limit)

    async def _late_truth(self, job: Job, outcome: Outcome) -> bool:
        """Write an answer that came after another pod had called the attempt unclear, where that still helps."""
        number = job.last.attempt_count
        last, sequence = await self._event_log.last_event(job.address)
        waiting = last is not None and (last.held or last.state == pb.MESSAGE_STATE_UNKNOWN)
        if last is None or not waiting or last.attempt_count != number or outcome.kind == AMBIGUOUS:
            _log.warning("late answer ignored", message_id=job.command.message_id, outcome=outcome_name(outcome.kind))
            return False
        job.place(last, sequence)
        verdict = judge(outcome, self._circumstances.case(job, settled=number))
        if not may_follow(last.state, verdict.state):
            return False
        return await self._event_log.record(job, verdict, outcome)

    def _log(self, job: Job, outcome: Outcome, verdict: Verdict, seconds: float) -> None:
        _log.info(
            "attempt",
            message_id=job.command.message_id,
            provider=self._circumstances.provider.name,
            attempt=job.last.attempt_count,
            outcome=outcome_name(outcome.kind),
            code=outcome.code or None,
            next=wire.NextStep.Name(verdict.next).removeprefix("NEXT_STEP_").lower(),
            seconds=round(seconds, 4),
            trace_id=telemetry.trace_id(job.span),
        )
