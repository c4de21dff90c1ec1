"""Asks the provider whether it has a message. A look-up takes its place in the provider's rate, as a send does."""

import asyncio
import time

import attrs
from opentelemetry.trace import SpanKind

from dispatcher.rate.pacer import Pacer, PermitGate
from dispatcher.transport.client import ProviderClient
from dispatcher.transport.gate import GateClosed
from dispatcher.work.dispatch_context import DispatchContext
from dispatcher.work.job import Job
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer
from providers.base import Outcome
from providers.echoes import without_echoes

_MOST_PATIENCE_S, _LEAST_PATIENCE_S = 10.0, 1.0
_COST = 1
_GATE_WAIT_S = 2.0


@attrs.define(kw_only=True)
class LookUps:
    """Makes the look-ups of one pod. One at a time waits for a permit, so that sends get at least every second one."""

    context: DispatchContext
    provider_client: ProviderClient
    pacer: Pacer
    tracer: Tracer
    _turn: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    @property
    def missing_after_s(self) -> float:
        """A look-up's no counts this long after the end of the attempt."""
        return self.provider_client.missing_after_s

    async def ask(self, job: Job) -> Outcome | None:
        """Return accepted, transient (the provider does not have it), or None: not known, or no permit in time."""
        if not self.provider_client.can_look_up:
            return None
        gate = await self._gate(job)
        if gate is None:
            return None
        try:
            with telemetry.span(
                self.tracer,
                "look up",
                job.span,
                SpanKind.CLIENT,
                attributes={"sms.message_id": job.command.message_id, "sms.provider": self.context.provider.name},
            ) as span:
                command, traceparent = job.command, telemetry.traceparent_of(span)
                outcome = await self.provider_client.look_up(command.message_id, traceparent, gate)
                return outcome and without_echoes(outcome, command.recipient, command.body)
        except GateClosed:
            return None
        finally:
            gate.close()

    async def _gate(self, job: Job) -> PermitGate | None:
        """Wait for a permit, shortly when the deadline is near."""
        patience_s = min(_MOST_PATIENCE_S, max(_LEAST_PATIENCE_S, job.deadline - self.context.now()))
        if self.pacer.paused_s > patience_s:
            return None
        try:
            async with asyncio.timeout(patience_s), self._turn:
                permit = await self.pacer.acquire(_COST)
        except TimeoutError:
            return None
        return PermitGate(
            pacer=self.pacer,
            permit=permit,
            give_up_at=time.monotonic() + _GATE_WAIT_S,
            deadline=float("inf"),
            clock=time.monotonic,
            wall_clock=time.time,
        )
