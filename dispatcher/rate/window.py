"""How a pod keeps to its share: slots, each of which is used once a window. Pure: monotonic seconds come in as `now`.

The other half of the limiter: `rate.allocator` divides the fleet's rate into shares, this one holds to the share.
"""

from bisect import insort
from collections import deque

import attrs


@attrs.define(eq=False)
class _Slot:
    """One unit of the share: usable again a window after its last write. `retired`: the share was lowered by it."""

    ready_at: float = 0.0
    retired: bool = False


@attrs.define(eq=False)
class Permit:
    """The right to start one send: its slots are taken. Not to be used before `ready_at` (monotonic seconds)."""

    slots: tuple[_Slot, ...]
    sent_at: float | None = None
    closed: bool = False

    @property
    def cost(self) -> int:
        """Units that the send takes."""
        return len(self.slots)

    @property
    def ready_at(self) -> float:
        """The earliest moment of the write."""
        return max(slot.ready_at for slot in self.slots)

    @property
    def retired(self) -> bool:
        """Whether the share was lowered by what this permit holds: it must not be used any more."""
        return any(slot.retired for slot in self.slots)


class Window:
    """One pod's share as slots. Each slot's writes lie a window apart, so no window holds more writes than slots.

    Between two uses of a slot lies the window, counted from the time *after* the earlier write to the time *before* the
    later one. `smoothing` spreads the starts: 1.0 keeps them exactly 1/share apart, smaller lets a late one catch up.
    A permit may be taken `lead_s` before it is ready, so that what has to be done between taking and writing costs
    none of the rate.
    """

    def __init__(self, window_s: float, *, lead_s: float = 0.0, smoothing: float = 0.98, burst_s: float = 0.02) -> None:
        self._window_s = window_s
        self._lead_s = lead_s
        self._smoothing = smoothing
        self._burst_s = burst_s
        self._free: list[_Slot] = []  # this and `_retired` in the order of `ready_at`
        self._retired: list[_Slot] = []
        self._busy: set[_Slot] = set()
        self._leaving: set[_Slot] = set()  # busy, and retired as soon as they are released
        self._sent: deque[tuple[float, int]] = deque()
        self._next = 0.0

    @property
    def share(self) -> int:
        """How many slots there are."""
        return len(self._free) + len(self._busy)

    @share.setter
    def share(self, share: int) -> None:
        """Add or retire slots. A slot keeps its past when it comes back, so that lowering and raising gains nothing."""
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
            # The one used last: with an older past than those that stay behind, it would send beside what they sent.
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

    def wait_s(self, now: float, cost: int) -> float | None:
        """Say how long until a permit may be taken: 0.0 means now, None means that only a change can tell."""
        if cost > len(self._free):
            return None
        ready = max(self._next, self._free[cost - 1].ready_at)
        return max(0.0, ready - self._lead_s - now)

    def take(self, now: float, cost: int) -> Permit:
        """Take a permit; only right after `wait_s` answered 0.0."""
        share = self.share
        taken = self._free[:cost]
        del self._free[:cost]
        self._busy.update(taken)
        start = max(self._next, now - self._burst_s)
        self._next = start + self._smoothing * cost * self._window_s / share
        return Permit(tuple(taken))

    def sent(self, permit: Permit, now: float) -> None:
        """Note the time after a permit's bytes were written: its slots rest for a window."""
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

    def used(self, now: float, span_s: float) -> int:
        """Count the units sent in the last `span_s` (at most the window), and those under way."""
        lately = sum(cost for at, cost in self._sent if at > now - span_s)
        return lately + len(self._busy) + len(self._leaving)


def _ready(slot: _Slot) -> float:
    return slot.ready_at
