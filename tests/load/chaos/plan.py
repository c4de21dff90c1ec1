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

NET_KINDS: Mapping[str, Kind] = {
    # one of three nats-servers: packets between it and the other two are dropped, both ways, on and off, or one way
    "split": Kind(4, 3.0, 12.0),
    "flap": Kind(2, 4.0, 10.0),
    "mute": Kind(2, 3.0, 10.0),
    "deaf": Kind(2, 3.0, 10.0),
    # nothing that it sends arrives anywhere, also not at our processes
    "vanish": Kind(2, 3.0, 10.0),
    # the wire to the strangers
    "wire": Kind(4, 2.0, 10.0),
}
MOOD_KINDS: Mapping[str, Kind] = {"mood": Kind(6, 2.0, 6.0)}

_WIRE = ("0.05 0", "0.3 0", "0 0.3", "0.1 0.1", "1 0")
"""Losses (probabilities) and delays in seconds, each way; the last one is a network that is gone."""

_DRAINS_S = 13.0
"""How long a process may take to stop."""


@attrs.frozen
class Beyond:
    """More targets of a long run: servers of the stream with routes that can be cut, a wire, and strangers' moods."""

    routes: Sequence[str] = ()
    wire: Sequence[str] = ()
    strangers: Sequence[str] = ()
    moods: Sequence[str] = ()

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The kinds of fault that come with them."""
        return {**(NET_KINDS if self.routes else {}), **(MOOD_KINDS if self.strangers else {})}


NOTHING_MORE = Beyond()


def make_plan(
    seed: int,
    span_s: float,
    every_s: float,
    processes: Sequence[str],
    servers: Sequence[str],
    providers: Sequence[str],
    beyond: Beyond = NOTHING_MORE,
    only: Sequence[str] = (),
) -> list[Fault]:
    """Draw faults over `span_s`, about one every `every_s`; the first ones are one of each kind, or of those in `only`.

    No target gets a fault while an earlier one lasts, and no two servers of the stream have faults at once.
    """
    rng = random.Random(f"chaos {seed}")
    kinds = {name: kind for name, kind in {**KINDS, **beyond.kinds}.items() if not only or name in only}
    targets = {
        **dict.fromkeys(("kill", "pause", "roll", "cut", "stall", "delay"), processes),
        **dict.fromkeys(("crash", "freeze", "reboot"), servers),
        "fill": ("stream",),
        "provider": providers,
        **dict.fromkeys(("split", "flap", "mute", "deaf", "vanish"), beyond.routes),
        "wire": beyond.wire,
        "mood": beyond.strangers,
    }
    first = rng.sample(list(kinds), len(kinds))
    busy: dict[str, float] = {}
    plan: list[Fault] = []
    at = every_s
    while at < span_s:
        kind = first.pop() if first else rng.choices(list(kinds), [one.weight for one in kinds.values()])[0]
        free = [name for name in targets[kind] if busy.get(_unit(name), 0.0) <= at]
        lasts = rng.uniform(kinds[kind].shortest_s, kinds[kind].longest_s)
        if free:
            target = rng.choice(free)
            busy[_unit(target)] = at + (lasts or _DRAINS_S) + every_s
            plan.append(Fault(at, kind, target, lasts, _detail(rng, kind, beyond.moods)))
        at += every_s * rng.uniform(0.5, 1.5)
    return plan


def _unit(target: str) -> str:
    return "nats" if target.startswith("nats") else target


def _detail(rng: random.Random, kind: str, moods: Sequence[str]) -> str:
    if kind == "wire":
        return rng.choice(_WIRE)
    if kind == "mood":
        return rng.choice(moods)
    if kind == "provider":
        return f"{rng.choice(PROVIDER_FAULTS)} {rng.choice((0.1, 0.5, 1.0))}"
    if kind == "delay":
        return f"{rng.uniform(0.02, 0.4):.2f}"
    return ""
