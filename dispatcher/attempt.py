"""One attempt: marker, call, outcome. Between marker and outcome nobody else may send the message."""

import asyncio
import time
from collections.abc import Callable, Collection

import attrs
import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.guard import Guard
from dispatcher.job import Job, following, sending
from dispatcher.pacer import Pacer, PermitGate
from dispatcher.scribe import Scribe
from dispatcher.transport.client import ProviderClient
from dispatcher.transport.gate import GateClosed
from dispatcher.verdict import Case, Policy, Progress, Verdict, expire, judge
from dispatcher.window import Permit
from messaging import routing, telemetry
from messaging.lifecycle import may_follow
from messaging.model import outcome_name
from messaging.providers_file import Provider
from messaging.routing import ProviderFacts, Turns
from messaging.spans import Tracer
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


@attrs.define
class Circumstances:
    """What decisions rest on: who we are, what the operator chose, what is known of the fleet."""

    provider: Provider
    pod: str
    policy: Policy
    facts: Callable[[], dict[str, ProviderFacts]]
    can_look_up: bool
    turns: Turns = attrs.Factory(Turns)

    def cost(self, command: wire.Command) -> int:
        """Say how many units of the rate a message takes; never more than the rate itself."""
        return min(self.provider.cost(command.segments), self.provider.rate_per_s)

    def room_elsewhere(self, command: wire.Command, progress: Progress) -> str | None:
        """Find a healthy provider with room for a message that waits behind our open breaker."""
        choice = routing.room_elsewhere(self.facts(), command.providers, self.turns, self.provider.name, progress.tried)
        return choice.provider if choice else None

    def case(self, job: Job, *, settled: int = 0) -> Case:
        """Gather what a verdict rests on, now; attempt number `settled` counts as clear, whatever is recorded."""
        unclear = any(
            one.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS and one.number != settled for one in job.last.attempts
        )

        def next_provider(tried: Collection[str]) -> str | None:
            choice = routing.failover_target(self.facts(), job.command.providers, self.turns, tried)
            return choice.provider if choice else None

        return Case(
            self.provider.name,
            job.command.priority,
            job.deadline,
            job.progress,
            self.policy,
            next_provider,
            self.can_look_up,
            time.time(),
            unclear,
        )


class Attempt:
    """Makes attempts for one pod."""

    def __init__(
        self,
        circumstances: Circumstances,
        adapter: ProviderClient,
        scribe: Scribe,
        pacer: Pacer,
        guard: Guard,
        tracer: Tracer,
    ) -> None:
        self._circumstances = circumstances
        self._adapter = adapter
        self._scribe = scribe
        self._pacer = pacer
        self._guard = guard
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
        pod, name = self._circumstances.pod, self._circumstances.provider.name
        began = time.monotonic()
        gate = PermitGate(self._pacer, permit, began + GATE_S, job.deadline)
        try:
            if not await self._scribe.record(job, sending(job, name, pod, time.time())):
                self._guard.breaker.abandon(generation)
                return False
            outcome = await self._call(job, gate)
        except BaseException:
            self._guard.breaker.abandon(generation)  # or a probe that broke would keep a half-open breaker for ever
            raise
        finally:
            gate.close()
        if outcome is None:
            self._guard.breaker.abandon(generation)
            return await self._scribe.record(job, self._not_sent(job))
        self._guard.record(generation, failed=_FAILED[outcome.kind])
        verdict = judge(outcome, self._circumstances.case(job))
        if verdict.pause_s:
            self._guard.pause(verdict.pause_s)
        self._log(job, outcome, verdict, time.monotonic() - began)
        if await self._scribe.record(job, following(job, verdict, pod, time.time(), outcome)):
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

    def _not_sent(self, job: Job) -> wire.Event:
        case = self._circumstances.case(job)
        outcome = Outcome(TRANSIENT, code="not-sent", detail="the right to send was lost before the bytes left")
        if case.now >= case.deadline:
            return following(job, expire(case), self._circumstances.pod, case.now, outcome)
        again = Verdict(
            pb.MESSAGE_STATE_QUEUED,
            wire.NEXT_STEP_AGAIN,
            case.provider,
            "NOT_SENT",
            outcome.detail,
            round=case.progress.round,
            tried=case.progress.tried,
        )
        return following(job, again, self._circumstances.pod, case.now, outcome)

    async def _late_truth(self, job: Job, outcome: Outcome) -> bool:
        """Write an answer that came after another pod had called the attempt unclear, where that still helps."""
        number = job.last.attempt_count
        last, sequence = await self._scribe.last_event(job.address)
        waiting = last is not None and (last.held or last.state == pb.MESSAGE_STATE_UNKNOWN)
        if last is None or not waiting or last.attempt_count != number or outcome.kind == AMBIGUOUS:
            _log.warning("late answer ignored", message_id=job.command.message_id, outcome=outcome_name(outcome.kind))
            return False
        job.last, job.sequence = last, sequence
        verdict = judge(outcome, self._circumstances.case(job, settled=number))
        if not may_follow(last.state, verdict.state):
            return False
        return await self._scribe.record(job, following(job, verdict, self._circumstances.pod, time.time(), outcome))

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
