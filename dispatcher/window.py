"""How a pod keeps to its share: slots, each of which is used once a window. Pure: monotonic seconds come in as `now`.

The other half of the limiter: `messaging.limiter` divides the fleet's rate into shares, this one holds to the share.
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
        self._free: list[_Slot] = []
        self._busy: set[_Slot] = set()
        self._retired: list[_Slot] = []
        self._sent: deque[tuple[float, int]] = deque()
        self._next = 0.0

    @property
    def share(self) -> int:
        """How many slots there are."""
        return len(self._free) + sum(1 for slot in self._busy if not slot.retired)

    @share.setter
    def share(self, share: int) -> None:
        """Add or retire slots. A slot keeps its past when it comes back, so that lowering and raising gains nothing."""
        change = share - self.share
        for _ in range(change):
            self._add()
        for _ in range(-change):
            self._retire()
        self._free.sort(key=_ready)

    def _add(self) -> None:
        busy = next((slot for slot in self._busy if slot.retired), None)
        if busy is not None:
            busy.retired = False
            return
        if self._retired:
            # The one used last: with an older past than those that stay behind, it would send beside what they sent.
            latest = max(self._retired, key=_ready)
            self._retired.remove(latest)
            latest.retired = False
            self._free.append(latest)
        else:
            self._free.append(_Slot())

    def _retire(self) -> None:
        if self._free:
            slot = max(self._free, key=_ready)
            self._free.remove(slot)
            self._retired.append(slot)
        else:
            slot = next(slot for slot in self._busy if not slot.retired)
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
        taken, self._free = self._free[:cost], self._free[cost:]
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
            self._busy.remove(slot)
            if slot.retired:
                self._retired.append(slot)
            else:
                insort(self._free, slot, key=_ready)

    def used(self, now: float, span_s: float) -> int:
        """Count the units sent in the last `span_s` (at most the window), and those under way."""
        lately = sum(cost for at, cost in self._sent if at > now - span_s)
        return lately + len(self._busy)


def _ready(slot: _Slot) -> float:
    return slot.ready_at
