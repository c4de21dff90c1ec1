"""How the bought rate is divided and kept. Pure: monotonic seconds come in as `now`.

Two halves. The *allocator* (one in the fleet) divides the fleet's limit into whole shares, one for each pod, and never
has more than the limit reserved. The *window* (one in each pod, `rate.window`) starts a send only while fewer
than its share lie within the last window. Shares add up, so no second of the whole fleet holds more than its limit,
wherever that second starts.

A share is lowered at once, but what was lowered stays *held* until the pod has confirmed the table that lowered it and
one window has passed. A silent pod keeps its reservation until its own view of its lease must have ended. Units are
sends, or segments where a provider charges those.
"""

from collections.abc import Mapping

import attrs

from messaging.documents import Grant, Lease, Table

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

    def quiet(self, now: float) -> list[str]:
        """Name the pods that hold a share and were not heard of for two renewals: worth a look at the leader."""
        silence = 2 * self.timing.renew_s
        return [pod for pod in self.table.grants if pod in self._seen and now > self._seen[pod].at + silence]

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
