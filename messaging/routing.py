"""Chooses a message's first provider, and the next one after a failure. Pure: facts come in, a choice goes out."""

from collections.abc import Collection, Mapping, Sequence

import attrs


@attrs.frozen
class ProviderFacts:
    """What routing knows about one provider now.

    `weight` is relative (1 to 1000), and lower `priority` goes first. `backlog` counts the messages that wait for the
    provider, which is full when there are `room` of them.
    """

    name: str
    weight: int = 1
    priority: int = 0
    enabled: bool = True
    draining: bool = False
    breaker_open: bool = False
    backlog: int = 0
    room: int = 1_000_000
    available: bool = attrs.field(init=False)
    """Whether it may get new messages at all."""
    healthy: bool = attrs.field(init=False)
    """Whether it is a good choice now."""

    @available.default
    def _available(self) -> bool:
        return self.enabled and not self.draining

    @healthy.default
    def _healthy(self) -> bool:
        return self.available and not self.breaker_open and self.backlog < self.room


@attrs.frozen
class Choice:
    """The chosen provider, and the reason that the message's status shows."""

    provider: str
    reason: str


class Rotation:
    """Smooth weighted round-robin over the providers; each process has its own.

    Every provider has a credit. A pick adds each candidate's weight to its credit, takes the candidate with the most
    credit and subtracts the sum of the weights from it, so that picks interleave instead of coming in runs.
    """

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}
        self._everyone: _Pool | None = None

    def copy(self) -> "Rotation":
        """Make a rotation that continues from here; picking from one does not affect the other."""
        other = Rotation()
        other._credit = self._credit | (self._everyone.credit_by_name() if self._everyone else {})
        return other

    def pick(self, candidates: Sequence[ProviderFacts]) -> ProviderFacts:
        """Pick the next of `candidates` (not empty), in proportion to their weights."""
        if self._everyone is not None:
            self._credit |= self._everyone.credit_by_name()
            self._everyone = None
        credit = self._credit
        total = 0
        best, most = candidates[0], float("-inf")
        for facts in candidates:
            total += facts.weight
            has = credit[facts.name] = credit.get(facts.name, 0.0) + facts.weight
            if has > most:
                best, most = facts, has
        credit[best.name] -= total
        return best

    def pick_of_all(self, facts: Mapping[str, ProviderFacts]) -> Choice | None:
        """Pick for a message that may have any provider, as `choose` does; None when there is none.

        The candidates are kept until other facts come: among a hundred, finding them takes longer than the choice.
        """
        pool = self._everyone
        if pool is None or pool.facts is not facts:
            if pool is not None:
                self._credit |= pool.credit_by_name()
            members, why = _best_of([one for one in facts.values() if one.available])
            pool = self._everyone = _Pool(facts, members, why, [self._credit.get(one.name, 0.0) for one in members])
        return Choice(pool.next().name, pool.why) if pool.members else None


@attrs.define
class _Pool:
    """The candidates among all providers, by the facts of a moment, and their credit."""

    facts: Mapping[str, ProviderFacts]
    members: Sequence[ProviderFacts]
    why: str
    credit: list[float]
    _weights: list[int] = attrs.field(init=False)
    _total: int = attrs.field(init=False)

    @_weights.default
    def _weights_of_members(self) -> list[int]:
        return [one.weight for one in self.members]

    @_total.default
    def _total_weight(self) -> int:
        return sum(self._weights)

    def next(self) -> ProviderFacts:
        """Pick as `Rotation.pick` does."""
        self.credit = [had + weight for had, weight in zip(self.credit, self._weights, strict=True)]
        best = self.credit.index(max(self.credit))
        self.credit[best] -= self._total
        return self.members[best]

    def credit_by_name(self) -> dict[str, float]:
        """Return each member's credit."""
        return {one.name: credit for one, credit in zip(self.members, self.credit, strict=True)}


def choose(
    facts: Mapping[str, ProviderFacts], asked: Sequence[str], rotation: Rotation, tried: Collection[str] = ()
) -> Choice | None:
    """Choose among the providers that are allowed and not yet tried; None when there are none.

    With a caller's list (`asked`), only its providers are used, in its order; an unhealthy one is skipped while another
    is healthy. Without a list, the healthy providers with the lowest `priority` are chosen by weight. `facts` must not
    be changed afterwards.
    """
    if not asked and not tried:
        return rotation.pick_of_all(facts)
    names = asked or facts.keys()
    allowed = [facts[name] for name in names if name in facts and facts[name].available and name not in tried]
    if not allowed:
        return None
    if asked:
        healthy = [one for one in allowed if one.healthy]
        first = (healthy or allowed)[0]
        return Choice(first.name, "first healthy of the caller's list" if healthy else "caller's list, none is healthy")
    pool, why = _best_of(allowed)
    return Choice(rotation.pick(pool).name, why)


def _best_of(allowed: Sequence[ProviderFacts]) -> tuple[Sequence[ProviderFacts], str]:
    """Find the best of the allowed providers, and the reason for a choice among them."""
    if not allowed:
        return (), ""
    healthy = [one for one in allowed if one.healthy]
    pool = healthy or [one for one in allowed if not one.breaker_open] or allowed
    lowest = min(one.priority for one in pool)
    pool = [one for one in pool if one.priority == lowest]
    return pool, f"by weight among {len(pool)} healthy" if healthy else f"by weight among {len(pool)}, none is healthy"


def failover_target(
    facts: Mapping[str, ProviderFacts], asked: Sequence[str], rotation: Rotation, tried: Collection[str]
) -> Choice | None:
    """Choose the next provider after a failure: an untried one whose breaker is closed; None when there is none."""
    open_ones = {name for name, one in facts.items() if one.breaker_open}
    return choose(facts, asked, rotation, {*tried, *open_ones})


def reroute_target(
    facts: Mapping[str, ProviderFacts], asked: Sequence[str], rotation: Rotation, current: str, tried: Collection[str]
) -> Choice | None:
    """Choose another, healthy provider for a message whose current one has an open breaker; None means wait."""
    unhealthy = {name for name, one in facts.items() if not one.healthy}
    return choose(facts, asked, rotation, {current, *tried, *unhealthy})
