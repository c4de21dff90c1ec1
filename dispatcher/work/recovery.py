"""What a pod does with messages that are not simply sent: step aside, expire, look a second time, ask again."""

import asyncio
import time

import attrs
import structlog
from opentelemetry.trace import SpanKind

from dispatcher.transport.client import ProviderClient
from dispatcher.work.attempt import GATE_S
from dispatcher.work.circumstances import Circumstances
from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from dispatcher.work.verdict import Verdict, expire, hold, judge, step_aside
from messaging import codec
from messaging.errors import StreamDown
from messaging.model import outcome_name
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer
from providers.base import ACCEPTED, AMBIGUOUS, Outcome

_log = structlog.get_logger(__name__)

_MARGIN_S = 2.0
_LOOK_EVERY_S = 1.0
_DEADLINE_SLACK_S = 0.5


@attrs.define
class Recovery:
    """Each method writes one event; False means that another writer was faster, so look back again."""

    circumstances: Circumstances
    adapter: ProviderClient
    event_log: EventLog
    tracer: Tracer

    async def step_aside(self, job: Job, target: str) -> bool:
        """Move a message from behind an open breaker to `target`."""
        return await self._write(job, step_aside(self.circumstances.case(job), target))

    async def expire(self, job: Job) -> bool:
        """End a message whose deadline has passed."""
        _log.info("expired", message_id=job.command.message_id, trace_id=telemetry.trace_id(job.span))
        return await self._write(job, expire(self.circumstances.case(job)))

    async def second_look(self, job: Job) -> bool:
        """Wait until the attempt that was begun must have ended; if nothing was written, its outcome is unclear."""
        end = time.monotonic() + self.circumstances.provider.timeout_s + GATE_S + _MARGIN_S
        while (left := end - time.monotonic()) > 0:
            await job.delivery.keep()
            await asyncio.sleep(min(left, _LOOK_EVERY_S))
            if not await self._unchanged(job):
                return False
        outcome = Outcome(AMBIGUOUS, code="vanished", detail="the process that made the attempt vanished")
        _log.warning(
            "unclear attempt",
            message_id=job.command.message_id,
            attempt=job.last.attempt_count,
            trace_id=telemetry.trace_id(job.span),
        )
        return await self._write(job, judge(outcome, self.circumstances.case(job)), outcome)

    async def _unchanged(self, job: Job) -> bool:
        try:
            return await self.event_log.unchanged(job)
        except StreamDown:
            return True

    async def ask_again(self, job: Job) -> bool:
        """Ask the provider about an unclear attempt, or end it at its deadline."""
        case = self.circumstances.case(job)
        outcome = await self._look_up(job)
        if outcome is not None:
            _log.info(
                "looked up",
                message_id=job.command.message_id,
                outcome=outcome_name(outcome.kind),
                trace_id=telemetry.trace_id(job.span),
            )
            case = self.circumstances.case(job, settled=job.last.attempt_count)
            if outcome.kind != ACCEPTED and case.now >= job.deadline:
                return await self._write(job, expire(case), outcome)
            return await self._write(job, judge(outcome, case), outcome)
        if case.now >= job.deadline - _DEADLINE_SLACK_S:
            case = attrs.evolve(case, now=max(case.now, job.deadline))
        waited = case.now - codec.unix(job.last.time)
        return await self._write(job, hold(case, job.last.detail, waited_s=2 * waited))

    async def _look_up(self, job: Job) -> Outcome | None:
        if not self.circumstances.can_look_up:
            return None
        with telemetry.span(
            self.tracer,
            "look up",
            job.span,
            SpanKind.CLIENT,
            attributes={"sms.message_id": job.command.message_id, "sms.provider": self.circumstances.provider.name},
        ) as span:
            return await self.adapter.look_up(job.command.message_id, telemetry.traceparent_of(span))

    async def _write(self, job: Job, verdict: Verdict, outcome: Outcome | None = None) -> bool:
        return await self.event_log.record(job, verdict, outcome)
