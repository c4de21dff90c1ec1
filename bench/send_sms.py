"""SendSms: calls accepted a second and their latency, compared with a bare gRPC server that only publishes."""

import asyncio
import contextlib
from collections import defaultdict
from typing import Any

import attrs

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.cpu import Stopwatch
from bench.figure import Figure, Result
from bench.spread import ratios
from bench.testbed import Testbed, start_testbed
from ops.percentile import percentile

GOAL = ">= 0.85"
_WARM_UP_S = 0.5


@attrs.frozen
class Arm:
    """One side of the comparison: gateways or floors, how many, and whether publishes are conditional."""

    name: str
    floor: bool
    processes: int
    conditional: bool = True


ARMS = (
    Arm("gateway", floor=False, processes=1),
    Arm("floor", floor=True, processes=1),
    Arm("floor, plain publish", floor=True, processes=1, conditional=False),
    Arm("two gateways", floor=False, processes=2),
    Arm("two floors", floor=True, processes=2),
)


@attrs.define
class Comparison:
    """The processes of all arms, and the measured values of each."""

    testbed: Testbed
    callers: list[Agent]
    floors: list[Agent]
    in_flight: int
    measured: dict[str, list[float]] = attrs.Factory(lambda: defaultdict(list))

    async def measure(self, arm: Arm, seconds: float) -> None:
        """Run the load on one arm and record its values."""
        addresses, pids = await self._servers(arm)
        callers = self.callers[: arm.processes]
        await self.testbed.purge()
        await self._drive(callers, addresses, min(_WARM_UP_S, seconds))
        watch = Stopwatch({**pids, "nats-server": self.testbed.pids()["nats-server"]})
        answers = await self._drive(callers, addresses, seconds)
        used = watch.read()
        accepted = sum(one["accepted"] for one in answers)
        took = [value for one in answers for value in one["took_ns"]]
        self.note(arm, "rate", accepted / max(one["seconds"] for one in answers))
        self.note(arm, "p50", percentile(took, 50) / 1e6)
        self.note(arm, "p99", percentile(took, 99) / 1e6)
        self.note(arm, "server", sum(used[name] for name in pids) / accepted * 1e3)
        self.note(arm, "nats", used["nats-server"] / accepted * 1e3)

    def note(self, arm: Arm, quantity: str, value: float) -> None:
        """Record one value of an arm."""
        self.measured[f"{arm.name}/{quantity}"].append(value)

    def of(self, arm: str, quantity: str) -> list[float]:
        """Return the measured values, one for each repetition."""
        return self.measured[f"{arm}/{quantity}"]

    async def _servers(self, arm: Arm) -> tuple[list[str], dict[str, int]]:
        if not arm.floor:
            addresses = self.testbed.system.gateways[: arm.processes]
            pids = self.testbed.pids()
            return addresses, {name: pids[name] for name in (f"gateway-{n + 1}" for n in range(arm.processes))}
        agents = self.floors[: arm.processes]
        answers = [await agent.ask(kind="serve", conditional=arm.conditional) for agent in agents]
        return [one["address"] for one in answers], {f"floor-{n}": agent.pid for n, agent in enumerate(agents)}

    async def _drive(self, callers: list[Agent], addresses: list[str], seconds: float) -> list[dict[str, Any]]:
        each = self.in_flight // len(callers)
        return await asyncio.gather(
            *(one.ask(kind="unary", addresses=addresses, in_flight=each, seconds=seconds) for one in callers)
        )


async def run(repetitions: int, seconds: float, in_flight: int) -> Result:
    """Measure every arm once in each round; each round starts with another arm."""
    async with contextlib.AsyncExitStack() as stack:
        testbed = await stack.enter_async_context(
            start_testbed(gateways=2, dispatchers_each=0, coordinators=0, projectors=0, providers=("p1", "p2", "p3"))
        )
        callers = [await stack.enter_async_context(start_agent("bench.load")) for _ in range(2)]
        await callers[0].ask(kind="unary", addresses=testbed.system.gateways, in_flight=2, seconds=0.1)
        floors = [
            await stack.enter_async_context(start_agent("bench.floor", SMSGW_NATS_URL=testbed.url)) for _ in range(2)
        ]
        comparison = Comparison(testbed, callers, floors, in_flight)
        for repetition in range(repetitions):
            for n in range(len(ARMS)):
                await comparison.measure(ARMS[(repetition + n) % len(ARMS)], seconds)
    setting = {"repetitions": repetitions, "seconds": seconds, "in_flight": in_flight}
    return Result("send_sms", "SendSms accepted a second", setting, _figures(comparison), _NOTES)


def _figures(found: Comparison) -> list[Figure]:
    def ratio(ours: str, theirs: str, quantity: str = "rate") -> list[float]:
        return ratios(found.of(ours, quantity), found.of(theirs, quantity))

    figures = [
        Figure("gateway ÷ floor", "×", ratio("gateway", "floor"), GOAL),
        Figure("two gateways ÷ two floors", "×", ratio("two gateways", "two floors"), GOAL),
        Figure("gateway ÷ floor with plain publish", "×", ratio("gateway", "floor, plain publish")),
        Figure("CPU of the server for a call, gateway ÷ floor", "×", ratio("gateway", "floor", "server")),
    ]
    for title, quantity, unit in QUANTITIES:
        figures += [Figure(f"{title}: {arm.name}", unit, found.of(arm.name, quantity)) for arm in ARMS]
    return figures


QUANTITIES = (
    ("accepted", "rate", "/s"),
    ("answer p50", "p50", "ms"),
    ("answer p99", "p99", "ms"),
    ("CPU of the server for a call", "server", "ms"),
    ("CPU of nats-server for a call", "nats", "ms"),
)
_NOTES = (
    (
        "Caller, server and nats-server share the cores of this machine: a rate shows how much of them a call uses,"
        " not what a server on a machine of its own could do. The ratio is fair: both sides have the same caller, "
        "nats-server, stream, bytes, headers and condition."
    ),
    "The floor is a bare grpc.aio server that does not check, route, trace or log; it publishes with `js.publish`.",
    "With two servers there are two calling processes, each with half of the calls in flight.",
)

BENCH = Bench(
    "send_sms",
    run,
    {"repetitions": 5, "seconds": 3.0, "in_flight": 64},
    {"repetitions": 1, "seconds": 0.2, "in_flight": 16},
)

if __name__ == "__main__":
    main(BENCH)
