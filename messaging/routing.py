"""Which provider gets a message first, and which next. Pure: facts come in, a choice goes out.

Smooth weighted choice: every provider carries a credit; a turn adds each candidate's weight, takes the richest and
charges it the sum of the weights, so that choices interleave instead of coming in runs.
"""

from collections.abc import Collection, Mapping, Sequence

import attrs


@attrs.frozen
class ProviderFacts:
    """What routing knows of one provider at a moment.

    `weight` is relative (1 to 1000), lower `priority` goes first, `backlog` counts messages that wait for it.
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
    """Whether it may get messages at all."""
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
    """The provider chosen and why, in words for the message's story."""

    provider: str
    reason: str


class Turns:
    """The running credits of smooth weighted choice; one for each gateway process."""

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}

    def copy(self) -> "Turns":
        """Make turns that go on from here without moving these."""
        twin = Turns()
        twin._credit = dict(self._credit)
        return twin

    def pick(self, candidates: Sequence[ProviderFacts]) -> ProviderFacts:
        """Take the next of `candidates` (not empty) in proportion to their weights."""
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


def choose(
    facts: Mapping[str, ProviderFacts], asked: Sequence[str], turns: Turns, tried: Collection[str] = ()
) -> Choice | None:
    """Choose among those that are allowed and not yet tried; None when there is none.

    The caller's list is honoured exclusively and in order; a provider of it that is not healthy is passed over while
    another one is. Without a list, the healthy ones of the lowest priority number share by weight.
    """
    names = asked or facts.keys()
    allowed = [facts[name] for name in names if name in facts and facts[name].available and name not in tried]
    if not allowed:
        return None
    healthy = [one for one in allowed if one.healthy]
    if asked:
        first = (healthy or allowed)[0]
        return Choice(first.name, "first healthy of the caller's list" if healthy else "caller's list, none is healthy")
    pool = healthy or [one for one in allowed if not one.breaker_open] or allowed
    lowest = min(one.priority for one in pool)
    pool = [one for one in pool if one.priority == lowest]
    why = f"by weight among {len(pool)} healthy" if healthy else f"by weight among {len(pool)}, none is healthy"
    return Choice(turns.pick(pool).name, why)


def failover_target(
    facts: Mapping[str, ProviderFacts], asked: Sequence[str], turns: Turns, tried: Collection[str]
) -> Choice | None:
    """Choose the next provider after a failure: one that was not tried and whose breaker is closed; None if none."""
    open_ones = {name for name, one in facts.items() if one.breaker_open}
    return choose(facts, asked, turns, {*tried, *open_ones})


def room_elsewhere(
    facts: Mapping[str, ProviderFacts], asked: Sequence[str], turns: Turns, away_from: str, tried: Collection[str]
) -> Choice | None:
    """Choose a healthy provider with room for a message that waits behind an open breaker; None means wait."""
    unhealthy = {name for name, one in facts.items() if not one.healthy}
    return choose(facts, asked, turns, {away_from, *tried, *unhealthy})
