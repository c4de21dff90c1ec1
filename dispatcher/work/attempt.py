"""Makes one attempt: marker, call, outcome. Between marker and outcome no other pod may send the message."""

import asyncio

import attrs
import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer, PermitGate
from dispatcher.rate.window import Permit
from dispatcher.transport.client import ProviderClient
from dispatcher.transport.gate import GateClosed
from dispatcher.work.dispatch_context import DispatchContext
from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from dispatcher.work.verdict import Verdict, VerdictFacts, judge, not_sent, throttle_pause_s
from messaging.lifecycle import may_follow
from messaging.model import outcome_name
from messaging.runtime import telemetry
from messaging.runtime.boot_clock import boot_time
from messaging.runtime.spans import Tracer
from providers.base import AMBIGUOUS, TRANSIENT, Outcome, Submission

_log = structlog.get_logger(__name__)

GATE_WAIT_S = 2.0
"""The longest time between an attempt's marker and its first byte.

A pod that finds a marker without an outcome waits this long, plus the call's time-out, before it calls it unclear.
"""

_COUNTS_AS_FAILURE: dict[int, bool | None] = {
    pb.ATTEMPT_OUTCOME_ACCEPTED: False,
    pb.ATTEMPT_OUTCOME_THROTTLED: None,
    pb.ATTEMPT_OUTCOME_TRANSIENT: True,
    pb.ATTEMPT_OUTCOME_PERMANENT: None,
    pb.ATTEMPT_OUTCOME_PROVIDER_FAULT: True,
    pb.ATTEMPT_OUTCOME_AMBIGUOUS: True,
}
"""What the breaker counts for an outcome: a failure (True), a success (False) or nothing (None)."""


def submission_of(command: wire.Command, attempt: int, validity_s: float, traceparent: str) -> Submission:
    """Make what a provider's dialect is given: `attempt` counts from 1, `validity_s` is the time to the deadline."""
    return Submission(
        message_id=command.message_id,
        recipient=command.recipient,
        body=command.body,
        sender=command.sender,
        segments=command.segments,
        unicode=command.encoding == pb.ENCODING_UCS2,
        attempt=attempt,
        validity_s=validity_s,
        traceparent=traceparent,
    )


class AttemptRunner:
    """Makes the attempts of one pod."""

    def __init__(
        self,
        *,
        context: DispatchContext,
        provider_client: ProviderClient,
        event_log: EventLog,
        pacer: Pacer,
        breaker: BreakerSync,
        tracer: Tracer,
    ) -> None:
        self._context = context
        self._provider_client = provider_client
        self._event_log = event_log
        self._pacer = pacer
        self._breaker = breaker
        self._tracer = tracer
        self._calls: set[asyncio.Timeout] = set()
        self._cut = False

    def cut_calls(self) -> None:
        """End every call now; those whose bytes have left become unclear."""
        self._cut = True
        for limit in self._calls:
            limit.reschedule(0)

    async def run(self, job: Job, permit: Permit, generation: int) -> bool:
        """Make one attempt and record what follows; False when another writer changed the message first."""
        began = boot_time()
        gate = PermitGate(
            pacer=self._pacer,
            permit=permit,
            give_up_at=began + GATE_WAIT_S,
            deadline=job.deadline,
            clock=boot_time,
            wall_clock=self._context.now,
        )
        try:
            if not await self._event_log.start_attempt(job, self._context.provider.name):
                self._breaker.abandon(generation)
                return False
            outcome = await self._call(job, gate)
        except BaseException:
            self._breaker.abandon(generation)  # or a probe that failed like this would keep the breaker half-open
            raise
        finally:
            gate.close()
        if outcome is None:
            self._breaker.abandon(generation)
            outcome = Outcome(TRANSIENT, code="not-sent", detail="the right to send was lost before the bytes left")
            verdict = not_sent(self._context.verdict_facts(job), outcome.detail)
            return await self._event_log.record(job, verdict, outcome)
        facts = self._context.verdict_facts(job)
        verdict = judge(outcome, attrs.evolve(facts, refusal_is_fault=self._count(job, outcome, generation, facts)))
        self._log(job, outcome, verdict, boot_time() - began)
        if await self._event_log.record(job, verdict, outcome):
            return True
        return await self._record_late_answer(job, outcome)

    def _count(self, job: Job, outcome: Outcome, generation: int, facts: VerdictFacts) -> bool:
        """Tell the breaker how the call ended; True when a refusal for good is the fault of us or of the account."""
        provider, message_id = self._context.provider.name, job.command.message_id
        match outcome.kind:
            case _ if outcome.stalled:
                self._breaker.abandon(generation)
            case pb.ATTEMPT_OUTCOME_PERMANENT:
                if any(one.outcome == outcome.kind and one.provider != provider for one in job.last.attempts):
                    self._breaker.abandon(generation)  # two providers refuse this message: it is the message
                else:
                    return self._breaker.refused(generation, job.command.recipient, outcome.code, message_id)
            case pb.ATTEMPT_OUTCOME_THROTTLED:
                pause_s = throttle_pause_s(outcome, facts)
                first = facts.throttled_before == 0
                self._breaker.throttled(generation, message_id, pause_s, outcome.code, first_time=first)
            case _:
                self._breaker.record(generation, failed=_COUNTS_AS_FAILURE[outcome.kind], code=outcome.code)
        return False

    async def _call(self, job: Job, gate: PermitGate) -> Outcome | None:
        """Call the provider; None when nothing was sent."""
        command, provider = job.command, self._context.provider
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
            validity_s = max(0.0, job.deadline - self._context.now())
            submission = submission_of(command, job.last.attempt_count, validity_s, telemetry.traceparent_of(span))
            outcome = await self._send_until_cut(submission, gate)
            name = "not sent" if outcome is None else outcome_name(outcome.kind)
            span.set_attribute("sms.outcome", name)
            if outcome is None or _COUNTS_AS_FAILURE[outcome.kind]:
                span.set_status(Status(StatusCode.ERROR, name))
            return outcome

    async def _send_until_cut(self, submission: Submission, gate: PermitGate) -> Outcome | None:
        if self._cut:
            return None
        # The call ends by its time-out, not by cancelling this task, which still has to record the outcome.
        limit = asyncio.timeout(None)
        self._calls.add(limit)
        try:
            async with limit:
                return await self._provider_client.send(submission, gate)
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

    async def _record_late_answer(self, job: Job, outcome: Outcome) -> bool:
        """Record an answer that came after another pod had recorded the attempt as unclear.

        False when it changes nothing: the message has moved on, or the answer is unclear too.
        """
        number = job.last.attempt_count
        last, sequence = await self._event_log.last_event(job.address)
        waiting = last is not None and (last.held or last.state == pb.MESSAGE_STATE_UNKNOWN)
        if last is None or not waiting or last.attempt_count != number or outcome.kind == AMBIGUOUS:
            _log.warning("late answer ignored", message_id=job.command.message_id, outcome=outcome_name(outcome.kind))
            return False
        job.set_last(last, sequence)
        verdict = judge(outcome, self._context.verdict_facts(job, resolved_attempt=number))
        if not may_follow(last.state, verdict.state):
            return False
        return await self._event_log.record(job, verdict, outcome)

    def _log(self, job: Job, outcome: Outcome, verdict: Verdict, seconds: float) -> None:
        _log.info(
            "attempt",
            message_id=job.command.message_id,
            provider=self._context.provider.name,
            attempt=job.last.attempt_count,
            outcome=outcome_name(outcome.kind),
            code=outcome.code or None,
            next=wire.NextStep.Name(verdict.next).removeprefix("NEXT_STEP_").lower(),
            stalled=outcome.stalled or None,
            seconds=round(seconds, 4),
            trace_id=telemetry.trace_id(job.span),
        )
