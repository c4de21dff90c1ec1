"""What the server does by itself at a given time: expire messages, fire schedules, copy, redeliver."""

import heapq
import itertools
from collections.abc import Callable

_TOLERANCE_S = 1e-6


class Agenda:
    """Actions and when they are due; while one runs, `now` is the time at which it was due."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._actions: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._current: float | None = None

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self._clock() if self._current is None else self._current

    def at(self, due: float, action: Callable[[], object]) -> None:
        """Run an action at `due`, or at once when that has passed; the action checks whether it still applies."""
        heapq.heappush(self._actions, (max(due, self.now), next(self._order), action))

    def run(self) -> None:
        """Run every action that is due, in order; an action may add more."""
        if self._current is not None:
            return
        now = self._clock()
        try:
            while self._actions and self._actions[0][0] <= now + _TOLERANCE_S:
                self._current, _, action = heapq.heappop(self._actions)
                action()
        finally:
            self._current = None

    @property
    def next_due(self) -> float | None:
        """When the next action is due; None when there is none."""
        return self._actions[0][0] if self._actions else None
