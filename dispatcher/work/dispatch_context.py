"""What one pod knows when it decides about a message: its provider, the operator's policy, the other providers."""

import itertools
from collections.abc import Callable, Collection

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.job import Job
from dispatcher.work.verdict import Policy, Progress, VerdictFacts
from messaging import routing
from messaging.model import priority_of
from messaging.routing import Choice, ProviderFacts, Rotation
from messaging.runtime.providers_file import Provider
from messaging.stream.clock import wall_time


@attrs.define
class DispatchContext:
    """Collects the facts for a verdict; `provider_facts` returns the current facts of every provider.

    `now` returns Unix seconds; every deadline is judged by it.
    """

    provider: Provider
    pod: str
    policy: Policy
    provider_facts: Callable[[], dict[str, ProviderFacts]]
    can_look_up: bool
    turns: Rotation = attrs.Factory(Rotation)
    now: Callable[[], float] = wall_time

    def cost(self, command: wire.Command) -> int:
        """Return how many units of the rate a message takes; never more than one second's rate."""
        return min(self.provider.cost(command.segments), self.provider.rate_per_s)

    def provider_with_room(self, command: wire.Command, progress: Progress) -> str | None:
        """Find a healthy provider with room for a message that waits behind an open breaker; None when there is none.

        Providers that were tried in this round are left out.
        """
        choice = routing.reroute_target(
            self.provider_facts(), command.providers, self.turns, self.provider.name, progress.tried
        )
        return choice.provider if choice else None

    def provider_when_due(self, job: Job) -> Choice | None:
        """Choose anew for a scheduled message that is due, if its provider would not be chosen now; None to stay.

        Days may have passed since it was accepted. It leaves a provider that may get no new messages, and one that is
        over-full or has an open breaker while another one is healthy.
        """
        if job.sequence or not job.command.HasField("schedule_time"):
            return None
        facts, name = self.provider_facts(), self.provider.name
        if name in facts and facts[name].healthy:
            return None
        if name in facts and facts[name].available:
            return routing.reroute_target(facts, job.command.providers, self.turns, name, ())
        return routing.choose(facts, job.command.providers, self.turns, (name,))

    def _throttled_before(self, job: Job) -> int:
        """Count the ended attempts at the end of the list that this provider throttled."""
        ended = [one for one in job.last.attempts if one.HasField("end_time")]
        throttled = (pb.ATTEMPT_OUTCOME_THROTTLED, self.provider.name)
        row = itertools.takewhile(lambda one: (one.outcome, one.provider) == throttled, reversed(ended))
        return sum(1 for _ in row)

    def verdict_facts(self, job: Job, *, resolved_attempt: int = 0) -> VerdictFacts:
        """Collect the facts for a verdict now. Attempt number `resolved_attempt` no longer counts as unclear."""
        unclear_attempts = sum(
            one.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS and one.number != resolved_attempt for one in job.last.attempts
        )

        def next_provider(tried: Collection[str]) -> str | None:
            choice = routing.failover_target(self.provider_facts(), job.command.providers, self.turns, tried)
            return choice.provider if choice else None

        return VerdictFacts(
            provider=self.provider.name,
            priority=priority_of(job.command.priority),
            deadline=job.deadline,
            progress=job.progress,
            policy=self.policy,
            next_provider=next_provider,
            can_look_up=self.can_look_up,
            now=self.now(),
            unclear_attempts=unclear_attempts,
            throttled_before=self._throttled_before(job),
        )
