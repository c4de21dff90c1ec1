"""When a provider is left alone. Pure: monotonic seconds come in as `now`.

Each pod counts the failures of its own calls; the state that follows is shared by all pods of the provider (a document
that `guard` writes by compare-and-set). Opens after failures in a row, or when more than half of enough calls in the
window failed; after the cooldown one pod may probe with single calls. Answers to calls that began before the last
change are ignored. An operator's `forced` opening stays until it is reset.
"""

import enum
from collections import deque
from typing import Any

import attrs


class Mode(enum.StrEnum):
    """The three modes of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.frozen
class Shared:
    """What all pods and the gateway see of one breaker; `probe` names the pod that may try a half-open one."""

    state: Mode = Mode.CLOSED
    generation: int = 0
    reason: str = ""
    probe: str = ""
    forced: bool = False

    def to_document(self) -> dict[str, Any]:
        """Write it for the bucket."""
        return {**attrs.asdict(self), "state": str(self.state)}

    @classmethod
    def from_document(cls, document: dict[str, Any] | None) -> "Shared":
        """Read it from the bucket; nothing means closed."""
        known = {field.name for field in attrs.fields(cls)}
        values = {key: value for key, value in (document or {}).items() if key in known}
        return cls(**{**values, "state": Mode(values.get("state", Mode.CLOSED))})


@attrs.frozen
class Limits:
    """When to open, and how long to wait. Seconds and counts."""

    failures: int = 5
    calls: int = 20
    window_s: float = 60.0
    cooldown_s: float = 30.0
    patience_s: float = 45.0


class Breaker:
    """One pod's part of a provider's breaker. Its methods answer with the shared state that should be written."""

    def __init__(self, pod: str, limits: Limits) -> None:
        self._pod = pod
        self._limits = limits
        self._in_a_row = 0
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0  # of those calls
        self._seen_at = float("-inf")
        self._probing = False
        self.shared = Shared()

    def adopt(self, shared: Shared, now: float) -> None:
        """Take over what the bucket says; a change forgets what was counted before it."""
        if shared == self.shared:
            return
        if shared.generation != self.shared.generation or shared.state != self.shared.state:
            self._in_a_row = self._failures = 0
            self._calls.clear()
        self.shared = shared
        self._seen_at = now
        self._probing = False

    def admits(self) -> bool:
        """Whether a call may begin now; a half-open breaker admits one at a time, and only its prober's."""
        match self.shared.state:
            case Mode.CLOSED:
                return True
            case Mode.HALF_OPEN:
                return self.shared.probe == self._pod and not self._probing
            case Mode.OPEN:
                return False

    def begin(self) -> int:
        """Note that a call begins; gives the generation that its answer must name."""
        if self.shared.state is Mode.HALF_OPEN:
            self._probing = True
        return self.shared.generation

    def abandon(self, generation: int) -> None:
        """Note that a call which had begun was never made."""
        if generation == self.shared.generation:
            self._probing = False

    def wanted(self, now: float) -> Shared | None:
        """Say what time alone asks for: a probe after the cooldown, or another prober for one that fell silent."""
        shared = self.shared
        if shared.state is Mode.OPEN and not shared.forced and now >= self._seen_at + self._limits.cooldown_s:
            return attrs.evolve(shared, state=Mode.HALF_OPEN, probe=self._pod, generation=shared.generation + 1)
        silent = now >= self._seen_at + self._limits.patience_s
        if shared.state is Mode.HALF_OPEN and shared.probe != self._pod and silent:
            return attrs.evolve(shared, probe=self._pod, generation=shared.generation + 1)
        return None

    def record(self, generation: int, now: float, *, failed: bool | None) -> Shared | None:
        """Count the answer to a call; `failed` None means that it says nothing of the provider's health."""
        shared = self.shared
        if generation != shared.generation:
            return None
        if shared.state is Mode.HALF_OPEN:
            self._probing = False
            if failed:
                return Shared(Mode.OPEN, generation + 1, "the probe failed")
            return Shared(Mode.CLOSED, generation + 1)
        if failed is None or shared.state is Mode.OPEN:
            return None
        self._in_a_row = self._in_a_row + 1 if failed else 0
        self._calls.append((now, failed))
        self._failures += failed
        while self._calls[0][0] <= now - self._limits.window_s:
            self._failures -= self._calls.popleft()[1]
        if self._in_a_row >= self._limits.failures:
            return Shared(Mode.OPEN, generation + 1, f"{self._in_a_row} failures in a row")
        if len(self._calls) >= self._limits.calls and 2 * self._failures > len(self._calls):
            return Shared(Mode.OPEN, generation + 1, f"{self._failures} of {len(self._calls)} calls failed")
        return None
