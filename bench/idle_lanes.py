"""What lanes without messages cost: CPU of all processes, memory of each, and what they take from SendSms."""

import asyncio
import time
from collections import defaultdict

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.cpu import rss_bytes, total
from bench.figure import Figure, Result
from bench.spread import ratios
from bench.testbed import Testbed, start_testbed
from ops.percentile import percentile

_DISPATCHER = "dispatcher-all-1"
_KINDS = ("gateway", "coordinator", "dispatcher", "nats-server")
_IN_FLIGHT = 64
_PAUSE_S = 0.1
_MESSAGES = 5

Values = defaultdict[tuple[str, int], list[float]]
"""The measured values by quantity and number of lanes, one for each repetition."""


async def run(repetitions: int, seconds: float, rest_s: float, lanes: list[int]) -> Result:
    """Start a system with each number of lanes in turn, and measure it at rest and then under load."""
    found: Values = defaultdict(list)
    async with start_agent("bench.load") as caller:
        for _ in range(repetitions):
            for count in lanes:
                providers = tuple(f"p{n + 1}" for n in range(count))
                async with start_testbed(providers=providers, projectors=0, together_from=1) as testbed:
                    await asyncio.sleep(rest_s)
                    await _at_rest(testbed, count, seconds, found)
                    await _first_messages(testbed, caller, count, found)
                    await _under_load(testbed, caller, count, seconds, found)
    setting = {"repetitions": repetitions, "seconds": seconds, "rest_s": rest_s, "lanes": lanes}
    return Result("idle_lanes", "Lanes without messages", setting, _figures(found, lanes), _NOTES)


async def _at_rest(testbed: Testbed, count: int, seconds: float, found: Values) -> None:
    """Measure CPU and memory while nothing happens."""
    watch, began = testbed.stopwatch(), time.monotonic()
    await asyncio.sleep(seconds)
    used, took = watch.read(), time.monotonic() - began
    for kind in _KINDS:
        found[kind, count].append(total(used, [kind]) / took * 1e3)
    found["all", count].append(total(used, _KINDS) / took * 1e3)
    found["memory", count].append(rss_bytes(testbed.pids()[_DISPATCHER]) / 2**20)


async def _first_messages(testbed: Testbed, caller: Agent, count: int, found: Values) -> None:
    """Send a message to each of a few lanes that rest."""
    command = {"addresses": testbed.system.gateways, "count": _MESSAGES, "pause_s": _PAUSE_S}
    answer = await caller.ask(kind="paced", **command)
    await testbed.until_taken(_MESSAGES)
    arrived = {one["reference"]: one["at_ns"] for lane in (await testbed.arrivals()).values() for one in lane}
    ways = [(arrived[message_id] - at) / 1e6 for message_id, at in answer["began_ns"].items()]
    found["first", count].append(percentile(ways, 50))


async def _under_load(testbed: Testbed, caller: Agent, count: int, seconds: float, found: Values) -> None:
    """Measure SendSms while the lanes send as fast as the limits allow."""
    command = {"addresses": testbed.system.gateways, "in_flight": _IN_FLIGHT}
    await caller.ask(kind="unary", **command, seconds=min(1.0, seconds))
    before, began = await testbed.taken(), time.monotonic()
    answer = await caller.ask(kind="unary", **command, seconds=seconds)
    found["sent", count].append((await testbed.taken() - before) / (time.monotonic() - began))
    found["rate", count].append(answer["accepted"] / answer["seconds"])


def _figures(found: Values, lanes: list[int]) -> list[Figure]:
    few, many = lanes[0], lanes[-1]
    added = [
        (most - least) / (many - few) for most, least in zip(found["memory", many], found["memory", few], strict=True)
    ]
    ratio = ratios(found["rate", many], found["rate", few])
    figures = [
        Figure(f"CPU of all processes in a second, {many} idle lanes", "ms", found["all", many], "<= 100"),
        Figure("memory of each added lane", "MiB", [max(0.0, one) for one in added], "<= 10"),
        Figure(f"SendSms with {many} lanes ÷ with {few}", "×", ratio, ">= 0.9"),
    ]
    for count in lanes:
        figures += [
            Figure("CPU of all processes in a second", "ms", found["all", count], at=count),
            *(Figure(f"CPU of {kind} in a second", "ms", found[kind, count], at=count) for kind in _KINDS),
            Figure("memory of the dispatcher", "MiB", found["memory", count], at=count),
            Figure("SendSms accepted", "/s", found["rate", count], at=count),
            Figure("sent meanwhile", "/s", found["sent", count], at=count),
            Figure("SendSms to the socket of a lane at rest, median", "ms", found["first", count], at=count),
        ]
    return figures


_NOTES = (
    (
        "One gateway, one coordinator, one nats-server, and one dispatcher process for all lanes (`work --all`). "
        "1,000 ms a second is one core. The lanes have rested for `rest_s` before the CPU is measured."
    ),
    (
        "Then a few messages go to lanes that rest, one to each, and at last SendSms is called with 64 in flight while "
        "the dispatcher sends at the fleet's limit: caller, gateway, nats-server and dispatcher share the machine."
    ),
)

BENCH = Bench(
    "idle_lanes",
    run,
    {"repetitions": 3, "seconds": 5.0, "rest_s": 10.0, "lanes": [5, 50, 100]},
    {"repetitions": 1, "seconds": 0.3, "rest_s": 0.1, "lanes": [2, 6]},
)

if __name__ == "__main__":
    main(BENCH)
