"""What a pod writes about a message without sending it: a move, an expiry, and the end of an unclear attempt."""

import asyncio
import time

import attrs
import structlog
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.attempt import GATE_WAIT_S
from dispatcher.work.dispatch_context import DispatchContext
from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from dispatcher.work.look_ups import LookUps
from dispatcher.work.verdict import Verdict, expire, hold, judge, move
from messaging import codec
from messaging.errors import StreamDown
from messaging.model import outcome_name
from messaging.routing import Choice
from messaging.runtime import telemetry
from providers.base import ACCEPTED, AMBIGUOUS, Outcome

_log = structlog.get_logger(__name__)

_MARGIN_S = 2.0
_CHECK_EVERY_S = 1.0
_DEADLINE_SLACK_S = 0.5
_ASK_SLACK_S = 0.5


@attrs.define
class Recovery:
    """Each method writes one event. It returns False when another writer was first: then read the last event again.

    Without `look_ups` nothing can be asked.
    """

    context: DispatchContext
    look_ups: LookUps | None
    event_log: EventLog

    async def move(self, job: Job, target: str) -> bool:
        """Move a message that waits behind an open breaker to the provider `target`."""
        return await self._write(job, move(self.context.verdict_facts(job), target))

    async def reroute(self, job: Job, choice: Choice, reason: str) -> bool:
        """Move a message to another provider, chosen anew; `reason` says why."""
        verdict = move(self.context.verdict_facts(job), choice.provider)
        own = self.context.provider_facts().get(self.context.provider.name)
        why = "has an open breaker or too many waiting" if own is not None and own.available else "is no longer used"
        detail = f"{self.context.provider.name} {why}: {choice.reason}"
        return await self._write(job, attrs.evolve(verdict, reason=reason, detail=detail))

    async def expire(self, job: Job, why: str) -> bool:
        """End a message whose deadline has passed, or is too near; `why` says what stood in its way."""
        _log.info("expired", message_id=job.command.message_id, why=why, trace_id=telemetry.trace_id(job.span))
        return await self._write(job, expire(self.context.verdict_facts(job), why))

    async def await_attempt(self, job: Job) -> bool:
        """Wait until another pod's attempt must have ended. If it recorded no outcome, record an unclear one."""
        end = time.monotonic() + self.context.provider.timeout_s + GATE_WAIT_S + _MARGIN_S
        while (left := end - time.monotonic()) > 0:
            await job.delivery.keep()
            await asyncio.sleep(min(left, _CHECK_EVERY_S))
            if not await self._unchanged(job):
                return False
        outcome = Outcome(AMBIGUOUS, code="vanished", detail="the process that made the attempt vanished")
        _log.warning(
            "unclear attempt",
            message_id=job.command.message_id,
            attempt=job.last.attempt_count,
            trace_id=telemetry.trace_id(job.span),
        )
        return await self._write(job, judge(outcome, self.context.verdict_facts(job)), outcome)

    async def _unchanged(self, job: Job) -> bool:
        try:
            return await self.event_log.unchanged(job)
        except StreamDown:
            return True

    async def resolve_held(self, job: Job) -> bool:
        """Look up a held message at the provider. Without an answer, hold it longer or end it at its deadline.

        A yes counts at once and ends the attempt. A no counts only when nothing of the attempt can arrive any more; the
        attempt stays unclear in the story, and the message is sent again.
        """
        facts = self.context.verdict_facts(job)
        ended_at = codec.unix(job.last.attempts[-1].end_time) if job.last.attempts else codec.unix(job.last.time)
        no_counts_at = ended_at + (self.look_ups.missing_after_s if self.look_ups else 0.0)
        outcome = await self.look_ups.ask(job) if self.look_ups else None
        if outcome is not None and outcome.kind == ACCEPTED:
            self._log_look_up(job, outcome)
            return await self._write(job, judge(outcome, facts), outcome) or await self._write_late(job, outcome)
        if outcome is not None and facts.now >= no_counts_at:
            self._log_look_up(job, outcome)
            verdict = expire(facts) if facts.now >= job.deadline else judge(outcome, facts)
            return await self._write(job, verdict)
        if facts.now >= job.deadline - _DEADLINE_SLACK_S:
            facts = attrs.evolve(facts, now=max(facts.now, job.deadline))
        waited_s = facts.now - codec.unix(job.last.time)
        longer = hold(facts, job.last.detail, least_wait_s=2 * waited_s, ask_at=no_counts_at + _ASK_SLACK_S)
        return await self._write(job, longer)

    def _log_look_up(self, job: Job, outcome: Outcome) -> None:
        _log.info(
            "looked up",
            message_id=job.command.message_id,
            outcome=outcome_name(outcome.kind),
            trace_id=telemetry.trace_id(job.span),
        )

    async def _write_late(self, job: Job, outcome: Outcome) -> bool:
        """Record a yes that came after the message had become UNKNOWN at its deadline."""
        number = job.last.attempt_count
        last, sequence = await self.event_log.last_event(job.address)
        ended = last is not None and last.state == pb.MESSAGE_STATE_UNKNOWN and last.attempt_count == number
        if not ended:
            return False
        job.set_last(last, sequence)
        return await self._write(job, judge(outcome, self.context.verdict_facts(job, resolved_attempt=number)), outcome)

    async def _write(self, job: Job, verdict: Verdict, outcome: Outcome | None = None) -> bool:
        return await self.event_log.record(job, verdict, outcome)
