"""Divides the fleet's limit into the shares that pods should have, by what they need. Pure.

Each pod gets a part of what it needs. Of what is left, one quarter of the limit stays free, so that a burst of one lane
gets the rest of its rate at once; everything else lies ready with the pods: the first messages of a burst are sent
without asking anybody.
"""

from collections.abc import Mapping

import attrs

MIN_DEMAND = 2
"""The need of an idle pod: less would make its first messages wait for each other."""

RESTING_PART = 20
"""One part in so many of the limit is kept for the pods that rest, also while the others could use all of it."""

_FREE_PART = 4


@attrs.frozen
class Wish:
    """What one pod of a provider could use (units a second); a pod that rests can use nothing now."""

    provider: str
    demand: int
    floor: int = 1
    rests: bool = False


@attrs.frozen
class Targets:
    """Shares by pod: what each needs now, and that with what may lie ready at it. `free` units should be left."""

    needed: Mapping[str, int] = attrs.Factory(dict)
    ready: Mapping[str, int] = attrs.Factory(dict)
    free: int = 0


def waterfill(total: int, caps: Mapping[str, int]) -> dict[str, int]:
    """Split `total` into whole parts, as equal as the caps allow; returns the part of each name."""
    parts = dict.fromkeys(caps, 0)
    left = total
    unfilled = {name for name, cap in caps.items() if cap > 0}
    while unfilled and left > 0:
        step = max(left // len(unfilled), 1)
        for name in sorted(unfilled):
            added = min(step, caps[name] - parts[name], left)
            parts[name] += added
            left -= added
        unfilled = {name for name in unfilled if parts[name] < caps[name]}
    return parts


def divide(limit: int, rates: Mapping[str, int], wishes: Mapping[str, Wish]) -> Targets:
    """Divide the limit among pods; `rates` are those of the providers.

    Pods that rest get what the others leave, and together at least a part of the limit: a pod that wakes with a share
    need not wait for the allocator, but a hundred that rest must not take the rate from those at work.
    """
    work: dict[str, dict[str, int]] = {}
    rest: dict[str, dict[str, int]] = {}
    for pod, wish in wishes.items():
        rate = rates[wish.provider]
        demand = MIN_DEMAND if wish.rests else max(wish.demand, wish.floor, MIN_DEMAND)
        (rest if wish.rests else work).setdefault(wish.provider, {})[pod] = min(demand, rate)
    working, resting, free = _by_provider(limit, rates, work, rest)
    floors = {pod: min(max(wish.floor, 1), rates[wish.provider]) for pod, wish in wishes.items()}
    needed: dict[str, int] = {}
    for name, pods in work.items():
        needed.update(_with_floors(working[name], pods, floors))
    for name, pods in rest.items():
        needed.update(waterfill(resting[name], pods))
    taken = {name: working.get(name, 0) + resting.get(name, 0) for name in work | rest}
    more = waterfill(limit - free - sum(taken.values()), {name: rates[name] - units for name, units in taken.items()})
    ready = dict(needed)
    for name, units in more.items():
        pods = dict.fromkeys((*work.get(name, ()), *rest.get(name, ())), rates[name])
        for pod, part in waterfill(units, pods).items():
            ready[pod] += part
    return Targets(needed, ready, free)


def _by_provider(
    limit: int,
    rates: Mapping[str, int],
    work: Mapping[str, Mapping[str, int]],
    rest: Mapping[str, Mapping[str, int]],
) -> tuple[dict[str, int], dict[str, int], int]:
    """Return what each provider's pods at work need, what those that rest get, and what should be left free."""
    asked, resting = _sums(work), _sums(rest)
    kept = waterfill(limit // RESTING_PART, {name: min(rates[name], units) for name, units in resting.items()})
    caps = {name: min(rates[name] - kept.get(name, 0), units) for name, units in asked.items()}
    working = waterfill(limit - sum(kept.values()), caps)
    left = limit - sum(working.values())
    free = max(0, min(limit // _FREE_PART, left - max(sum(map(len, rest.values())), sum(kept.values()))))
    caps = {name: min(rates[name] - working.get(name, 0), units) for name, units in resting.items()}
    return working, waterfill(left - free, caps), free


def _sums(pods: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Sum the demands of each provider's pods."""
    return {name: sum(demands.values()) for name, demands in pods.items()}


def _with_floors(total: int, demands: Mapping[str, int], floors: Mapping[str, int]) -> dict[str, int]:
    """Split a provider's part among its pods: first each pod's floor, as far as the part goes; then by demand."""
    parts: dict[str, int] = {}
    left = total
    for pod in sorted(demands, key=lambda pod: (floors[pod], pod)):
        parts[pod] = floors[pod] if floors[pod] <= left else 0
        left -= parts[pod]
    rest = waterfill(
        left, {pod: demand - parts[pod] for pod, demand in demands.items() if parts[pod] or not floors[pod]}
    )
    return {pod: part + rest.get(pod, 0) for pod, part in parts.items()}
