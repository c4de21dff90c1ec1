"""How the bought rate is divided and kept. Pure: monotonic seconds come in as `now`.

Two halves. The *allocator* (one in the fleet) divides the fleet's limit into whole shares, one for each pod, and never
has more than the limit reserved. The *window* (one in each pod) is an exact sliding log: it starts a send only while
fewer than its share lie within the last window. Shares add up, so no second of the whole fleet holds more than its
limit, wherever that second starts.

A share is lowered at once, but what was lowered stays *held* until the pod has confirmed the table that lowered it and
one window has passed. A silent pod keeps its reservation until its own view of its lease must have ended. Units are
sends, or segments where a provider charges those.
"""

from bisect import insort
from collections import deque
from collections.abc import Mapping

import attrs

MIN_DEMAND = 2
"""Share that an idle pod keeps, so that its first message need not wait for the allocator."""


@attrs.frozen
class Timing:
    """Seconds. `window_s` is one second and an allowance for the jitter between our write and the provider's socket."""

    lease_s: float = 2.5
    renew_s: float = 0.5
    window_s: float = 1.002
    guard_s: float = 0.05
    leader_ttl_s: float = 3.0


@attrs.frozen
class Lease:
    """What a pod says of itself: its wish (`demand`), its dearest waiting message (`floor`), what it has applied.

    `sent` counts its sends since it started; `gone` is its last word: it sends no more and gives its share back.
    """

    provider: str
    demand: int
    floor: int = 1
    version: int = 0
    sent: int = 0
    gone: bool = False


@attrs.frozen
class Grant:
    """What a pod may use (`share`), and what it may still be using (`held`) until it confirms `held_version`."""

    provider: str
    share: int = 0
    held: int = 0
    held_version: int = 0

    @property
    def reserved(self) -> int:
        """What the pod can be using at the most."""
        return max(self.share, self.held)


@attrs.frozen
class Table:
    """The allocation: one document, each change a new version."""

    version: int = 0
    grants: Mapping[str, Grant] = attrs.Factory(dict)


def waterfill(total: int, caps: Mapping[str, int]) -> dict[str, int]:
    """Split `total` into whole parts, as equal as the caps allow; small caps are filled first."""
    parts = dict.fromkeys(caps, 0)
    left = total
    hungry = {name for name, cap in caps.items() if cap > 0}
    while hungry and left > 0:
        step = max(left // len(hungry), 1)
        for name in sorted(hungry):
            given = min(step, caps[name] - parts[name], left)
            parts[name] += given
            left -= given
        hungry = {name for name in hungry if parts[name] < caps[name]}
    return parts


@attrs.define
class _Seen:
    sequence: int
    at: float
    lease: Lease | None = None
    confirmed_at: dict[int, float] = attrs.Factory(dict)


class Allocator:
    """Decides the next table from the leases; lives as long as one leadership.

    `limit` is the fleet's, `rates` the providers' (units a second). `table` is the stored one, or None when there was
    none: then nothing is granted for one lease and one window, because pods may still hold what a lost table gave.
    """

    def __init__(
        self, limit: int, rates: Mapping[str, int], table: Table | None, now: float, timing: Timing | None = None
    ) -> None:
        self.limit = limit
        self.rates = dict(rates)
        self.timing = timing or Timing()
        self.table = table or Table()
        self._cold_until = 0.0 if table else now + self.timing.lease_s + self.timing.window_s
        self._seen = {pod: _Seen(0, now) for pod in self.table.grants}
        self._forgotten: dict[str, int] = {}

    def observe(self, leases: Mapping[str, tuple[int, Lease]], now: float) -> None:
        """Take in the leases as (stream sequence, lease) of each pod; only a new sequence counts as a sign of life."""
        self._forgotten = {pod: sequence for pod, sequence in self._forgotten.items() if pod in leases}
        for pod, (sequence, lease) in leases.items():
            seen = self._seen.get(pod)
            if seen is None:
                if lease.gone or sequence <= self._forgotten.get(pod, 0):
                    continue
                seen = self._seen[pod] = _Seen(0, now)
            if sequence > seen.sequence:
                seen.sequence, seen.at, seen.lease = sequence, now, lease

    def step(self, now: float) -> Table:
        """Give the table that should be in force; the same object when nothing changes."""
        grants = self._alive(now)
        grants = {pod: self._released(pod, grant, now) for pod, grant in grants.items()}
        targets = self._targets(now)
        version = self.table.version + 1
        for pod, grant in grants.items():
            target = targets.get(pod, 0)
            if target < grant.share:
                grants[pod] = attrs.evolve(grant, share=target, held=grant.reserved, held_version=version)
        if now >= self._cold_until:
            self._raise(grants, targets)
        if grants != self.table.grants:
            self.table = Table(version, grants)
        return self.table

    def _alive(self, now: float) -> dict[str, Grant]:
        timing = self.timing
        silence = timing.lease_s + timing.window_s + timing.guard_s
        farewell = timing.window_s + timing.guard_s
        for pod, seen in list(self._seen.items()):
            gone = seen.lease is not None and seen.lease.gone
            if now > seen.at + (farewell if gone else silence):
                self._forgotten[pod] = seen.sequence  # its lease stays in the bucket for a while
                del self._seen[pod]
        return {pod: grant for pod, grant in self.table.grants.items() if pod in self._seen}

    def _released(self, pod: str, grant: Grant, now: float) -> Grant:
        seen = self._seen[pod]
        if grant.held <= grant.share or seen.lease is None or seen.lease.version < grant.held_version:
            return grant
        since = seen.confirmed_at.setdefault(grant.held_version, now)
        if now < since + self.timing.window_s + self.timing.guard_s:
            return grant
        seen.confirmed_at.clear()
        return attrs.evolve(grant, held=grant.share, held_version=0)

    def _targets(self, now: float) -> dict[str, int]:
        by_provider: dict[str, dict[str, int]] = {}
        floors: dict[str, int] = {}
        for pod, seen in self._seen.items():
            lease = seen.lease
            if (
                lease is None
                or lease.gone
                or now >= seen.at + self.timing.lease_s
                or self.rates.get(lease.provider, 0) <= 0
            ):
                continue
            rate = self.rates[lease.provider]
            floors[pod] = min(max(lease.floor, 1), rate)
            wish = max(lease.demand, lease.floor, MIN_DEMAND)
            by_provider.setdefault(lease.provider, {})[pod] = min(wish, rate)
        wishes = {name: min(self.rates[name], sum(pods.values())) for name, pods in by_provider.items()}
        shares = waterfill(self.limit, wishes)
        targets: dict[str, int] = {}
        for name, pods in by_provider.items():
            targets.update(_with_floors(shares[name], pods, floors))
        return targets

    def _raise(self, grants: dict[str, Grant], targets: Mapping[str, int]) -> None:
        """Raise shares toward their targets, only out of what nobody has reserved."""
        for pod in targets:
            lease = self._seen[pod].lease
            if pod not in grants and lease is not None:
                grants[pod] = Grant(lease.provider)
        for pod in sorted(targets, key=lambda pod: (grants[pod].share, pod)):
            grant = grants[pod]
            free = self.limit - sum(other.reserved for other in grants.values())
            same = sum(other.reserved for other in grants.values() if other.provider == grant.provider)
            free = min(free, self.rates[grant.provider] - same)
            gain = min(targets[pod] - grant.share, max(0, free) + grant.reserved - grant.share)
            if gain > 0:
                share = grant.share + gain
                freed = share >= grant.held
                grants[pod] = attrs.evolve(
                    grant,
                    share=share,
                    held=share if freed else grant.held,
                    held_version=0 if freed else grant.held_version,
                )


def _with_floors(total: int, wishes: Mapping[str, int], floors: Mapping[str, int]) -> dict[str, int]:
    """Split a provider's part over its pods; each first gets what its dearest message costs, while that lasts."""
    parts: dict[str, int] = {}
    left = total
    for pod in sorted(wishes, key=lambda pod: (floors[pod], pod)):
        parts[pod] = floors[pod] if floors[pod] <= left else 0
        left -= parts[pod]
    rest = waterfill(left, {pod: wish - parts[pod] for pod, wish in wishes.items() if parts[pod] or not floors[pod]})
    return {pod: part + rest.get(pod, 0) for pod, part in parts.items()}


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
