"""What a pod's decisions rest on: who we are, what the operator chose, what is known of the fleet."""

import time
from collections.abc import Callable, Collection

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.job import Job
from dispatcher.work.verdict import Case, Policy, Progress
from messaging import routing
from messaging.routing import ProviderFacts, Rotation
from messaging.runtime.providers_file import Provider


@attrs.define
class Circumstances:
    """Gathers the facts of a verdict; `facts` gives what is known of every provider now."""

    provider: Provider
    pod: str
    policy: Policy
    facts: Callable[[], dict[str, ProviderFacts]]
    can_look_up: bool
    turns: Rotation = attrs.Factory(Rotation)

    def cost(self, command: wire.Command) -> int:
        """Say how many units of the rate a message takes; never more than the rate itself."""
        return min(self.provider.cost(command.segments), self.provider.rate_per_s)

    def room_elsewhere(self, command: wire.Command, progress: Progress) -> str | None:
        """Find a healthy provider with room for a message that waits behind our open breaker."""
        choice = routing.reroute_target(self.facts(), command.providers, self.turns, self.provider.name, progress.tried)
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
            provider=self.provider.name,
            priority=job.command.priority,
            deadline=job.deadline,
            progress=job.progress,
            policy=self.policy,
            next_provider=next_provider,
            can_look_up=self.can_look_up,
            now=time.time(),
            unclear=unclear,
        )
