"""Which faults happen, when and where: derived from a seed alone, so that a run can be repeated. Pure."""

import random
from collections.abc import Mapping, Sequence

import attrs

PROVIDER_FAULTS = ("throttle", "server_error", "unavailable", "hang", "reset", "take_and_hang", "take_and_reset")


@attrs.frozen
class Fault:
    """One fault: it starts `at_s` seconds after the load and lasts `lasts_s`; `detail` holds its parameters."""

    at_s: float
    kind: str
    target: str
    lasts_s: float
    detail: str = ""

    def __str__(self) -> str:
        """Format it for people."""
        return f"{self.at_s:7.1f} s  {self.kind:<9} {self.target} for {self.lasts_s:.1f} s {self.detail}".rstrip()


@attrs.frozen
class Kind:
    """How often a kind of fault is drawn among the others, and how long it lasts (seconds)."""

    weight: int
    shortest_s: float
    longest_s: float


KINDS: Mapping[str, Kind] = {
    # a process of ours
    "kill": Kind(6, 0.2, 3.0),
    "pause": Kind(5, 0.5, 7.0),
    "roll": Kind(3, 0.0, 0.0),
    # one process's connections to the stream and to the database
    "cut": Kind(3, 0.0, 0.0),
    "stall": Kind(3, 0.5, 6.0),
    "delay": Kind(3, 2.0, 6.0),
    # a server
    "crash": Kind(3, 0.3, 3.0),
    "freeze": Kind(2, 0.5, 4.0),
    "reboot": Kind(1, 0.5, 2.0),
    # the stream is full
    "fill": Kind(1, 1.0, 4.0),
    # a provider
    "provider": Kind(6, 2.0, 8.0),
}

_DRAINS_S = 13.0
"""How long a process may take to stop."""


def make_plan(
    seed: int, span_s: float, every_s: float, processes: Sequence[str], servers: Sequence[str], providers: Sequence[str]
) -> list[Fault]:
    """Draw faults over `span_s`, about one every `every_s`; the first ones are one of each kind.

    No target gets a fault while an earlier one lasts, and no two servers of the stream have faults at once.
    """
    rng = random.Random(f"chaos {seed}")
    targets = {
        **dict.fromkeys(("kill", "pause", "roll", "cut", "stall", "delay"), processes),
        **dict.fromkeys(("crash", "freeze", "reboot"), servers),
        "fill": ("stream",),
        "provider": providers,
    }
    first = rng.sample(list(KINDS), len(KINDS))
    busy: dict[str, float] = {}
    plan: list[Fault] = []
    at = every_s
    while at < span_s:
        kind = first.pop() if first else rng.choices(list(KINDS), [one.weight for one in KINDS.values()])[0]
        free = [name for name in targets[kind] if busy.get(_unit(name), 0.0) <= at]
        lasts = rng.uniform(KINDS[kind].shortest_s, KINDS[kind].longest_s)
        if free:
            target = rng.choice(free)
            busy[_unit(target)] = at + (lasts or _DRAINS_S) + every_s
            plan.append(Fault(at, kind, target, lasts, _detail(rng, kind)))
        at += every_s * rng.uniform(0.5, 1.5)
    return plan


def _unit(target: str) -> str:
    return "nats" if target.startswith("nats") else target


def _detail(rng: random.Random, kind: str) -> str:
    if kind == "provider":
        return f"{rng.choice(PROVIDER_FAULTS)} {rng.choice((0.1, 0.5, 1.0))}"
    if kind == "delay":
        return f"{rng.uniform(0.02, 0.4):.2f}"
    return ""
