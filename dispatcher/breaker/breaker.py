"""When a provider is left alone. Pure: monotonic seconds come in as `now`.

Each pod counts the failures of its own calls; the state that follows is shared by all pods of the provider (a document
that `BreakerSync` writes by compare-and-set). Opens after failures in a row, or when more than half of enough calls in
the window failed; after the cooldown one pod may probe with single calls. Answers to calls that began before the last
change are ignored. An operator's `forced` opening stays until it is reset.
"""

from collections import deque

import attrs

from messaging.documents import BreakerState, Mode


@attrs.frozen
class BreakerLimits:
    """When to open, and how long to wait. Seconds and counts."""

    failures: int = 5
    calls: int = 20
    window_s: float = 60.0
    cooldown_s: float = 30.0
    patience_s: float = 45.0


class Breaker:
    """One pod's part of a provider's breaker. Its methods answer with the shared state that should be written."""

    def __init__(self, pod: str, limits: BreakerLimits) -> None:
        self._pod = pod
        self._limits = limits
        self._in_a_row = 0
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0  # of those calls
        self._seen_at = float("-inf")
        self._probing = False
        self.state = BreakerState()

    def adopt(self, state: BreakerState, now: float) -> None:
        """Take over what the bucket says; a change forgets what was counted before it."""
        if state == self.state:
            return
        if state.generation != self.state.generation or state.mode != self.state.mode:
            self._in_a_row = self._failures = 0
            self._calls.clear()
        self.state = state
        self._seen_at = now
        self._probing = False

    def admits(self) -> bool:
        """Whether a call may begin now; a half-open breaker admits one at a time, and only its prober's."""
        match self.state.mode:
            case Mode.CLOSED:
                return True
            case Mode.HALF_OPEN:
                return self.state.probe == self._pod and not self._probing
            case Mode.OPEN:
                return False

    def begin(self) -> int:
        """Note that a call begins; gives the generation that its answer must name."""
        if self.state.mode is Mode.HALF_OPEN:
            self._probing = True
        return self.state.generation

    def abandon(self, generation: int) -> None:
        """Note that a call which had begun was never made."""
        if generation == self.state.generation:
            self._probing = False

    def wanted(self, now: float) -> BreakerState | None:
        """Say what time alone asks for: a probe after the cooldown, or another prober for one that fell silent."""
        state = self.state
        if state.mode is Mode.OPEN and not state.forced and now >= self._seen_at + self._limits.cooldown_s:
            return attrs.evolve(state, mode=Mode.HALF_OPEN, probe=self._pod, generation=state.generation + 1)
        silent = now >= self._seen_at + self._limits.patience_s
        if state.mode is Mode.HALF_OPEN and state.probe != self._pod and silent:
            return attrs.evolve(state, probe=self._pod, generation=state.generation + 1)
        return None

    def record(self, generation: int, now: float, *, failed: bool | None) -> BreakerState | None:
        """Count the answer to a call; `failed` None means that it says nothing of the provider's health."""
        state = self.state
        if generation != state.generation:
            return None
        if state.mode is Mode.HALF_OPEN:
            self._probing = False
            if failed:
                return BreakerState(Mode.OPEN, generation + 1, "the probe failed")
            return BreakerState(Mode.CLOSED, generation + 1)
        if failed is None or state.mode is Mode.OPEN:
            return None
        self._in_a_row = self._in_a_row + 1 if failed else 0
        self._calls.append((now, failed))
        self._failures += failed
        while self._calls[0][0] <= now - self._limits.window_s:
            self._failures -= self._calls.popleft()[1]
        if self._in_a_row >= self._limits.failures:
            return BreakerState(Mode.OPEN, generation + 1, f"{self._in_a_row} failures in a row")
        if len(self._calls) >= self._limits.calls and 2 * self._failures > len(self._calls):
            return BreakerState(Mode.OPEN, generation + 1, f"{self._failures} of {len(self._calls)} calls failed")
        return None
