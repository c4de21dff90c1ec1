"""Decides when sending to a failing provider stops and starts again. Pure: monotonic seconds come in as `now`.

Each pod counts the failures of its own calls. The resulting state is shared by all pods of the provider, in a document
that `breaker.sync` writes by compare-and-set. The breaker opens after several failures in a row, or when more than half
of the calls in the window failed and there were enough of them. After the cooldown one pod may probe with one call at
a time. Answers to calls that started before the last change of state are ignored. A breaker that an operator has
`forced` open stays open until the operator resets it.
"""

from collections import deque

import attrs

from messaging.documents import BreakerState, Mode

_LONGEST_CODE = 64


@attrs.frozen
class BreakerLimits:
    """When to open, and how long to wait; seconds and counts.

    `failures` in a row open the breaker; so does a majority of failures among at least `calls` calls in `window_s`.
    Another pod takes over the probe after `probe_timeout_s`.
    """

    failures: int = 5
    calls: int = 20
    window_s: float = 60.0
    cooldown_s: float = 30.0
    probe_timeout_s: float = 45.0
    refusals: int = 10
    """Different recipients refused alike in a row."""
    longest_pause_s: float = 3600.0
    """An open breaker probes at the latest after this time, whatever its document says."""


class Breaker:
    """One pod's part of a provider's breaker. `due_change` and `record` return the shared state to write, or None."""

    def __init__(self, pod: str, limits: BreakerLimits) -> None:
        self._pod = pod
        self.limits = limits
        self._in_a_row = 0
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0  # among `_calls`
        self._seen_at = self._probe_at = float("-inf")
        self._probing = False
        self.state = BreakerState()

    def adopt(self, state: BreakerState, now: float, unix_now: float = 0.0) -> None:
        """Take over the shared state; a change resets the counts. `unix_now` is what its `until` is compared with."""
        if state == self.state:
            return
        if state.generation != self.state.generation or state.mode != self.state.mode:
            self._in_a_row = self._failures = 0
            self._calls.clear()
        self.state = state
        self._seen_at = now
        left_s = min(max(0.0, state.until - unix_now), self.limits.longest_pause_s)
        self._probe_at = now + (left_s if state.until else self.limits.cooldown_s)
        self._probing = False

    def admits(self) -> bool:
        """Whether a call may start now. A half-open breaker admits one call at a time, from the probing pod only."""
        match self.state.mode:
            case Mode.CLOSED:
                return True
            case Mode.HALF_OPEN:
                return self.state.probe == self._pod and not self._probing
            case Mode.OPEN:
                return False

    def begin(self) -> int:
        """Note that a call starts; return the generation to pass with its answer."""
        if self.state.mode is Mode.HALF_OPEN:
            self._probing = True
        return self.state.generation

    def abandon(self, generation: int) -> None:
        """Note that a call announced by `begin` was not made."""
        if generation == self.state.generation:
            self._probing = False

    def due_change(self, now: float) -> BreakerState | None:
        """Return the change that is due by time alone: a probe after the cooldown, or a new prober for a silent one."""
        state = self.state
        if state.mode is Mode.OPEN and not state.forced and now >= self._probe_at:
            return attrs.evolve(state, mode=Mode.HALF_OPEN, probe=self._pod, generation=state.generation + 1, until=0.0)
        prober_is_silent = now >= self._seen_at + self.limits.probe_timeout_s
        if state.mode is Mode.HALF_OPEN and state.probe != self._pod and prober_is_silent:
            return attrs.evolve(state, probe=self._pod, generation=state.generation + 1)
        return None

    def open(self, generation: int, reason: str, cause: str, until: float = 0.0) -> BreakerState | None:
        """Return the open state, for a cause that a single answer shows; None when a later change came first."""
        if generation != self.state.generation or self.state.mode is Mode.OPEN:
            return None
        return BreakerState(Mode.OPEN, generation + 1, reason, cause=cause, until=until)

    def record(self, generation: int, now: float, *, failed: bool | None, code: str = "") -> BreakerState | None:
        """Count the answer to a call; `failed` is None when it says nothing about the provider's health.

        `code` is the answer's, for the reason of a breaker that opens; it may be empty.
        """
        state = self.state
        if generation != state.generation:
            return None
        if state.mode is Mode.HALF_OPEN:
            self._probing = False
            if failed:
                return BreakerState(Mode.OPEN, generation + 1, f"the probe failed{_with(code)}")
            return BreakerState(Mode.CLOSED, generation + 1)
        if failed is None or state.mode is Mode.OPEN:
            return None
        self._in_a_row = self._in_a_row + 1 if failed else 0
        self._calls.append((now, failed))
        self._failures += failed
        while self._calls[0][0] <= now - self.limits.window_s:
            self._failures -= self._calls.popleft()[1]
        if self._in_a_row >= self.limits.failures:
            return BreakerState(Mode.OPEN, generation + 1, f"{self._in_a_row} failures in a row{_with(code)}")
        if len(self._calls) >= self.limits.calls and 2 * self._failures > len(self._calls):
            reason = f"{self._failures} of {len(self._calls)} calls failed{_with(code)}"
            return BreakerState(Mode.OPEN, generation + 1, reason)
        return None


def _with(code: str) -> str:
    return f", the last with code {code[:_LONGEST_CODE]}" if code else ""
