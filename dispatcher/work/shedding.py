"""Decides which messages are given up before their deadline, and says what stood in a message's way. Pure.

A queue is served in the order of acceptance. With more messages than the rate allows, the one at its head is about to
expire; sent then, it would arrive too late or not at all, and the next one would be as old. So a message with less time
left than an attempt may need makes way for those behind it.
"""

import attrs

from messaging.documents import BreakerState, Mode

LEAST_S = 1.0
"""What an attempt may need from its turn to the provider's socket: the permit, the marker, the gate."""


@attrs.frozen
class Traffic:
    """How a pod's provider stands: its breaker, its pause, the pod's share, and how many messages wait."""

    provider: str
    breaker: BreakerState
    paused_s: float
    share: int
    waiting: int

    def is_too_late(self, left_s: float) -> bool:
        """Whether a message with `left_s` to its deadline is not sent any more: it is over, or others need the rate."""
        return left_s <= 0 or (left_s < LEAST_S and self.waiting > self.share)

    def obstacle(self) -> str:
        """Say what keeps messages from being sent; empty when nothing does."""
        if self.breaker.mode is Mode.OPEN:
            return f"the breaker of {self.provider} is open ({self.breaker.reason or 'no reason given'})"
        if self.breaker.mode is Mode.HALF_OPEN:
            return f"the breaker of {self.provider} is half-open and lets one message through at a time"
        if self.paused_s > 0:
            return f"{self.provider} asked for a pause, which lasts {self.paused_s:.0f} s more"
        if self.share == 0:
            return f"this pod of {self.provider} has no share of the rate"
        if self.waiting > self.share:
            return f"{self.waiting:,} messages wait for {self.provider}, of which this pod sends {self.share} a second"
        return ""

    def why_ended(self, left_s: float) -> str:
        """Say why a message that is too late has ended."""
        obstacle = self.obstacle()
        if left_s > 0:
            return f"shed {left_s:.1f} s before its deadline, because it could not be sent in time: {obstacle}"
        passed = "the deadline passed before a provider took it"
        return f"{passed}: {obstacle}" if obstacle else passed
