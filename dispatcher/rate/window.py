"""Keeps a pod within its share: each unit of the share is a slot, used once a window. Pure: `now` is monotonic seconds.

This is the other half of the limiter: `rate.allocator` divides the fleet's rate into shares.
"""

from bisect import insort
from collections import deque

import attrs


@attrs.define(eq=False)
class _Slot:
    """Room for one unit in a window, usable again one window after its last write. A retired slot left the share."""

    ready_at: float = 0.0
    retired: bool = False


@attrs.define(eq=False)
class Permit:
    """The right to make one send. It holds its slots, and must not be used before `ready_at` (monotonic seconds).

    `at_once` tells that it was not spread.
    """

    slots: tuple[_Slot, ...]
    at_once: bool = False
    sent_at: float | None = None
    closed: bool = False

    @property
    def cost(self) -> int:
        """How many units the send takes."""
        return len(self.slots)

    @property
    def ready_at(self) -> float:
        """The earliest time of the write."""
        return max(slot.ready_at for slot in self.slots)

    @property
    def retired(self) -> bool:
        """Whether the share was lowered by a slot of this permit: then it must not be used."""
        return any(slot.retired for slot in self.slots)


class Window:
    """One pod's share as slots. Writes of one slot are at least a window apart, so no window exceeds the share.

    That time is measured from the time *after* the earlier write to the time *before* the later one. `smoothing`
    spreads the starts: with 1.0 they are exactly 1/share apart, with less a late start can catch up. A permit that is
    taken `at_once` is not spread: it needs free slots only. A permit may be taken `lead_s` before it is ready, so that
    the work between taking it and writing does not lower the rate.
    """

    def __init__(self, window_s: float, *, lead_s: float = 0.0, smoothing: float = 0.98, burst_s: float = 0.02) -> None:
        self._window_s = window_s
        self._lead_s = lead_s
        self._smoothing = smoothing
        self._burst_s = burst_s
        self._free: list[_Slot] = []  # sorted by `ready_at`, as is `_retired`
        self._retired: list[_Slot] = []
        self._busy: set[_Slot] = set()  # held by permits
        self._leaving: set[_Slot] = set()  # held by permits, and retired when these are returned
        self._sent: deque[tuple[float, int]] = deque()
        self._latest_next = 0.0
        self._spread_from, self._spread_cost = float("inf"), 0

    @property
    def _next(self) -> float:
        """When the next spread send may start; a share that was raised since the last one shortens the wait."""
        return min(self._latest_next, self._spread_from + self._distance(self._spread_cost))

    def _distance(self, cost: int) -> float:
        """Return how far apart spread sends are with the share of this moment."""
        return self._smoothing * cost * self._window_s / max(1, self.share)

    @property
    def share(self) -> int:
        """How many slots the share has, free or busy."""
        return len(self._free) + len(self._busy)

    @share.setter
    def share(self, share: int) -> None:
        """Add or retire slots. A slot that returns keeps its last write, so lowering and raising gains no sends."""
        change = share - self.share
        for _ in range(change):
            self._add()
        for _ in range(-change):
            self._retire()
        self._free.sort(key=_ready)
        self._retired.sort(key=_ready)

    def _add(self) -> None:
        if self._leaving:
            slot = self._leaving.pop()
            self._busy.add(slot)
        else:
            # The slot used last: an older one could be used while the sends of those left out are still in the window.
            slot = self._retired.pop() if self._retired else _Slot()
            self._free.append(slot)
        slot.retired = False

    def _retire(self) -> None:
        if self._free:
            slot = self._free.pop()
            self._retired.append(slot)
        else:
            slot = self._busy.pop()
            self._leaving.add(slot)
        slot.retired = True

    def wait_s(self, now: float, cost: int, *, at_once: bool = False) -> float | None:
        """Return how long until a permit may be taken; None while too few slots are free."""
        if cost > len(self._free):
            return None
        ready = self._free[cost - 1].ready_at
        return max(0.0, (ready if at_once else max(self._next, ready)) - self._lead_s - now)

    def take(self, now: float, cost: int, *, at_once: bool = False) -> Permit:
        """Take a permit; call it only right after `wait_s` has returned 0.0 for the same arguments."""
        taken = self._free[:cost]
        del self._free[:cost]
        self._busy.update(taken)
        if not at_once:
            self._spread_from, self._spread_cost = max(self._next, now - self._burst_s), cost
            self._latest_next = self._spread_from + self._distance(cost)
        return Permit(tuple(taken), at_once)

    def sent(self, permit: Permit, now: float) -> None:
        """Note that a permit's bytes were written before `now`: its slots are usable again a window later."""
        permit.sent_at = now
        for slot in permit.slots:
            slot.ready_at = now + self._window_s
        self._release(permit)
        self._sent.append((now, permit.cost))
        while self._sent[0][0] <= now - self._window_s:
            self._sent.popleft()

    def give_back(self, permit: Permit) -> None:
        """Return a permit that was not used."""
        self._release(permit)

    def _release(self, permit: Permit) -> None:
        if permit.closed:
            return
        permit.closed = True
        for slot in permit.slots:
            if slot.retired:
                self._leaving.remove(slot)
                insort(self._retired, slot, key=_ready)
            else:
                self._busy.remove(slot)
                insort(self._free, slot, key=_ready)

    def sent_in(self, now: float, span_s: float) -> int:
        """Count the units sent in the last `span_s`, at most the window."""
        return sum(cost for at, cost in self._sent if at > now - span_s)

    def used(self, now: float, span_s: float) -> int:
        """Count the units sent in the last `span_s` (at most the window), and those held by permits."""
        return self.sent_in(now, span_s) + len(self._busy) + len(self._leaving)


def _ready(slot: _Slot) -> float:
    return slot.ready_at
