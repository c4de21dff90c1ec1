"""Divides the fleet's limit into shares. Pure: monotonic seconds come in as `now`.

The limiter has two halves. The *allocator* (one in the fleet) divides the limit into shares, one for each pod, and
never reserves more than the limit. The *window* (one in each pod, `rate.window`) permits no more sends than the pod's
share in any window. The sum of the shares is at most the limit, so in no window does the fleet send more than the
limit.

The allocator lowers a share at once, but the old share stays reserved (`held`) until the pod has confirmed the table
that lowered it and one window has passed. A pod that falls silent keeps its reservation until its lease has ended on
its own clock too. Units are sends, or segments where the provider charges segments.
"""

from collections.abc import Mapping

import attrs

from dispatcher.rate.targets import Wish, divide
from messaging.documents import Grant, Lease, Table


@attrs.frozen
class Timing:
    """Seconds. `window_s` is one second plus an allowance for jitter between our write and the provider's socket.

    `guard_s` is added to the waits after which a pod's share may go to another pod.
    """

    lease_s: float = 2.5
    renew_s: float = 0.5
    window_s: float = 1.002
    guard_s: float = 0.05
    leader_ttl_s: float = 3.0
    rest_s: float = 30.0
    """For how long a pod without work may rest: it renews seldom, and takes its share up again when it has work."""


@attrs.define
class _Observation:
    """What is known of a pod: its newest lease, that lease's sequence, and when the allocator first saw it."""

    sequence: int
    at: float
    lease: Lease | None = None
    confirmed_at: dict[int, float] = attrs.Factory(dict)
    stored_at: dict[int, float] = attrs.Factory(dict)
    """When the allocator first saw that its table, which lowered the share of a resting pod, was stored."""


class Allocator:
    """Computes the next table from the leases; a coordinator makes a new one each time it starts to lead.

    `limit` is the fleet's, `rates` the providers' (units a second). `table` is the stored one, or None when there is
    none: then no share is raised for one lease and one window, because pods may still use shares of a lost table.
    """

    def __init__(
        self, limit: int, rates: Mapping[str, int], table: Table | None, now: float, timing: Timing | None = None
    ) -> None:
        self.limit = limit
        self.rates = dict(rates)
        self.timing = timing or Timing()
        self.table = table or Table()
        self._no_raise_until = 0.0 if table else now + self.timing.lease_s + self.timing.window_s
        self._pods = {pod: _Observation(0, now) for pod in self.table.grants}
        self._removed: dict[str, int] = {}

    def observe(self, leases: Mapping[str, tuple[int, Lease]], now: float) -> None:
        """Take in each pod's (stream sequence, lease); only a new sequence shows that the pod is alive."""
        self._removed = {pod: sequence for pod, sequence in self._removed.items() if pod in leases}
        for pod, (sequence, lease) in leases.items():
            known = self._pods.get(pod)
            if known is None:
                if lease.gone or sequence <= self._removed.get(pod, 0):
                    continue
                known = self._pods[pod] = _Observation(0, now)
            if sequence > known.sequence:
                known.sequence, known.at, known.lease = sequence, now, lease

    def silent(self, now: float) -> list[str]:
        """List the pods whose leases should be read from the leader.

        They have missed two renewals, or rest and have not confirmed that their share was lowered.
        """
        found = []
        for pod, grant in self.table.grants.items():
            known = self._pods.get(pod)
            if known is not None:
                rests_s = self._rests_s(known)
                limit_s = rests_s or 2 * self.timing.renew_s
                if now > known.at + limit_s or (rests_s and grant.held > grant.share):
                    found.append(pod)
        return found

    def _rests_s(self, known: "_Observation") -> float:
        """Return how long a pod may rest after its lease's usual time; 0 for one that does not rest."""
        return min(known.lease.rests_s, self.timing.rest_s) if known.lease is not None else 0.0

    def step(self, now: float) -> Table:
        """Return the table that should be in force; the same object when nothing changes."""
        grants = {pod: self._without_confirmed(pod, grant, now) for pod, grant in self._live_grants(now).items()}
        wishes = self._wishes(now)
        targets = divide(self.limit, self.rates, wishes)
        version = self.table.version + 1
        may_raise = now >= self._no_raise_until
        if may_raise:
            grants = {pod: Grant(wish.provider) for pod, wish in wishes.items()} | grants
        goals = targets.ready
        if may_raise and not self._is_short(grants, targets.needed):
            goals = {pod: _goal(grants[pod].share, ready, targets.needed[pod]) for pod, ready in targets.ready.items()}
        for pod, grant in grants.items():
            goal = goals.get(pod, 0)
            if goal < grant.share:
                grants[pod] = attrs.evolve(grant, share=goal, held=grant.reserved, held_version=version)
        if may_raise:
            self._raise_shares(grants, targets.needed, self.limit)
            self._raise_shares(grants, goals, self.limit - targets.free)
        if grants != self.table.grants:
            self.table = Table(version, grants)
        return self.table

    def _live_grants(self, now: float) -> dict[str, Grant]:
        """Remove the pods that can no longer send; return the grants of the others."""
        for pod, known in list(self._pods.items()):
            if now > self._end_of(known):
                self._removed[pod] = known.sequence  # its old lease stays in the bucket for a while
                del self._pods[pod]
        return {pod: grant for pod, grant in self.table.grants.items() if pod in self._pods}

    def _end_of(self, known: "_Observation") -> float:
        """Return until when a pod may have sent with its share, if its lease is not renewed."""
        end = known.at + self.timing.window_s + self.timing.guard_s
        gone = known.lease is not None and known.lease.gone
        return end if gone else end + self.timing.lease_s + self._rests_s(known)

    def next_end(self, now: float) -> float:
        """Return in how many seconds the share of some pod becomes free, if none renews its lease until then."""
        return max(0.0, min((self._end_of(known) for known in self._pods.values()), default=float("inf")) - now)

    def _without_confirmed(self, pod: str, grant: Grant, now: float) -> Grant:
        """Free the held part of a grant once the pod has confirmed its lower share and one window has passed.

        A pod that rests cannot take up the older share once the table is stored, because it asks for the table as it
        was; and what it took up before has ended after one lease. So it need not confirm.
        """
        known = self._pods[pod]
        if grant.held <= grant.share or known.lease is None:
            return grant
        confirmed = known.lease.version >= grant.held_version
        if not confirmed and not self._rests_s(known):
            known.stored_at.clear()
            return grant
        since_of = known.confirmed_at if confirmed else known.stored_at
        since = since_of.setdefault(grant.held_version, now)
        if now < since + self.timing.window_s + self.timing.guard_s + (0.0 if confirmed else self.timing.lease_s):
            return grant
        known.stored_at.clear()
        known.confirmed_at.clear()
        return attrs.evolve(grant, held=grant.share, held_version=0)

    def _wishes(self, now: float) -> dict[str, Wish]:
        """Tell what each pod could use whose lease has not ended."""
        wishes = {}
        for pod, known in self._pods.items():
            lease, rests_s = known.lease, self._rests_s(known)
            if lease is None or lease.gone or now >= known.at + self.timing.lease_s + rests_s:
                continue
            if self.rates.get(lease.provider, 0) > 0:
                wishes[pod] = Wish(lease.provider, lease.demand, lease.floor, rests=bool(rests_s))
        return wishes

    def _is_short(self, grants: Mapping[str, Grant], needed: Mapping[str, int]) -> bool:
        """Whether some pod needs units that are not free."""
        reserved = _reserved(grants)
        missing = dict.fromkeys(reserved, 0)
        for pod, units in needed.items():
            grant = grants[pod]
            missing[grant.provider] += max(0, units - grant.share)
        all_missing = sum(missing.values())
        return all_missing > self.limit - sum(reserved.values()) or any(
            units > self.rates[name] - reserved[name] for name, units in missing.items() if units
        )

    def _raise_shares(self, grants: dict[str, Grant], targets: Mapping[str, int], limit: int) -> None:
        """Raise shares towards their targets, using only units that no pod has reserved, up to `limit` in all."""
        reserved = _reserved(grants)
        all_reserved = sum(reserved.values())
        for pod in sorted(targets, key=lambda pod: (grants[pod].share, pod)):
            grant = grants[pod]
            free = min(limit - all_reserved, self.rates[grant.provider] - reserved[grant.provider])
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
                more = grants[pod].reserved - grant.reserved
                all_reserved += more
                reserved[grant.provider] += more


def _goal(share: int, ready: int, needed: int) -> int:
    """Return the share that a pod should have when nobody is short: small changes are not worth a new table."""
    slack = max(2, ready // 4)
    return share if needed <= share and abs(share - ready) <= slack else ready


def _reserved(grants: Mapping[str, Grant]) -> dict[str, int]:
    """Sum what is reserved at each provider."""
    reserved = dict.fromkeys((grant.provider for grant in grants.values()), 0)
    for grant in grants.values():
        reserved[grant.provider] += grant.reserved
    return reserved
