"""Three nats-servers, each in a namespace of its own behind a router; routes are cut one direction at a time.

A cut is a rule of the router that drops packets in silence, as a broken switch does: no connection is reset.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ops.embedded.child import Place
from tests.load.chaos.net.namespaces import Namespace, ip
from tests.load.chaos.plan import Fault

Cut = tuple[int, int | None]
"""From which server to which one; None is everybody, also our processes and the callers."""

_FLAP_S = (0.3, 1.5)


class Routes:
    """The network of the servers, numbered from 0. Made in the thread of the run's own namespace."""

    def __init__(self, count: int = 3) -> None:
        self._namespaces = [_connected(number) for number in range(count)]
        self.places = [Place(_address(n), one.enter) for n, one in enumerate(self._namespaces)]

    @contextmanager
    def cut(self, cuts: Iterable[Cut]) -> Iterator[None]:
        """Drop the packets of these directions until the block ends."""
        rules = [_rule(*one) for one in cuts]
        for rule in rules:
            ip(f"rule add pref 100 {rule}")
        try:
            yield
        finally:
            for rule in rules:
                ip(f"rule del pref 100 {rule}")

    async def inject(self, fault: Fault, server: int) -> None:
        """Inject a fault of `plan.NET_KINDS` whose target is this server."""
        others = [n for n in range(len(self._namespaces)) if n != server]
        cuts = CUTS[fault.kind](server, others)
        if fault.kind != "flap":
            with self.cut(cuts):
                await asyncio.sleep(fault.lasts_s)
            return
        rng, end = random.Random(str(fault)), asyncio.get_running_loop().time() + fault.lasts_s
        while asyncio.get_running_loop().time() < end:
            with self.cut(cuts):
                await asyncio.sleep(rng.uniform(*_FLAP_S))
            await asyncio.sleep(rng.uniform(*_FLAP_S))


def _both_ways(server: int, others: list[int]) -> list[Cut]:
    return [pair for other in others for pair in ((server, other), (other, server))]


def _from_it(server: int, others: list[int]) -> list[Cut]:
    return [(server, other) for other in others]


def _to_it(server: int, others: list[int]) -> list[Cut]:
    return [(other, server) for other in others]


def _from_it_to_all(server: int, _others: list[int]) -> list[Cut]:
    return [(server, None)]


CUTS: dict[str, Callable[[int, list[int]], list[Cut]]] = {
    "split": _both_ways,
    "flap": _both_ways,
    "mute": _from_it,
    "deaf": _to_it,
    "vanish": _from_it_to_all,
}


def _connected(number: int) -> Namespace:
    """Make a namespace and a pair of links between it and the router."""
    made = Namespace()
    ip(f"link add nats{number} type veth peer name eth0 netns {made.path}")
    ip(f"addr add 10.99.{number}.1/24 dev nats{number}")
    ip(f"link set nats{number} up")
    made.run(lambda: ip(f"addr add {_address(number)}/24 dev eth0"))
    made.run(lambda: ip("link set eth0 up"))
    made.run(lambda: ip(f"route add default via 10.99.{number}.1"))
    return made


def _address(number: int) -> str:
    return f"10.99.{number}.2"


def _rule(source: int, target: int | None) -> str:
    to = "" if target is None else f" to {_address(target)}"
    return f"from {_address(source)}{to} blackhole"
