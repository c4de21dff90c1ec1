"""Notices that a provider has fallen silent, before its calls time out. Pure: seconds of one clock come in as `now`.

When packets to a provider are dropped, every call ends only by its time-out, and meanwhile each further message is
written into nothing and has an unclear outcome. A provider is silent when several calls wait longer than its answers
took lately, by far, and none was answered since the oldest of them began. Nothing is sent to it then, and the first
answer, or the end of the calls, ends the silence. A provider that is always slow is not silent.
"""

from collections import deque

import attrs


@attrs.define
class Silence:
    """The calls of one pod. Silence needs `calls` waiting, `answers` known in the last `window_s`, and `least_s`."""

    least_s: float = 2.0
    times_slower: float = 4.0
    calls: int = 3
    answers: int = 5
    window_s: float = 60.0
    _waiting: dict[int, float] = attrs.field(init=False, factory=dict)
    _took: deque[tuple[float, float]] = attrs.field(init=False, factory=deque)
    _answered_at: float = attrs.field(init=False, default=float("-inf"))
    _next: int = attrs.field(init=False, default=0)

    def began(self, now: float) -> int:
        """Note that a call was written; return its number."""
        self._next += 1
        self._waiting[self._next] = now
        return self._next

    def ended(self, number: int, now: float, *, answered: bool) -> None:
        """Note that a call has ended, with an answer of the provider or without."""
        began = self._waiting.pop(number, None)
        if answered and began is not None:
            self._answered_at = now
            self._took.append((now, now - began))
            while self._took[0][0] <= now - self.window_s:
                self._took.popleft()

    def is_silent(self, now: float) -> bool:
        """Whether the provider has fallen silent."""
        if len(self._waiting) < self.calls:
            return False
        oldest = next(iter(self._waiting.values()))
        if now - oldest <= self.least_s or self._answered_at >= oldest:
            return False
        lately = [seconds for at, seconds in self._took if at > now - self.window_s]
        return len(lately) >= self.answers and now - oldest > self.times_slower * max(lately)
