"""End to end without effective rate limits: messages a second, and the CPU time for each message by process."""

import asyncio
import time
from collections import defaultdict

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.cpu import total
from bench.figure import Figure, Result
from bench.testbed import OURS, Limits, Testbed, start_testbed
from messaging.stream import topology as topo

ARMS = ("BatchSend", "SendSms")
_OTHERS = ("nats-server", "postgres", "simulator")
_HIGH_LIMITS = Limits(provider=2000, fleet=10_000)
_WARM_UP = 100
_IDLE_S = 1.0
_CHUNK = 500


async def run(repetitions: int, messages: int) -> Result:
    """Measure SendSms and BatchSend once in each round, from the first call until the history is complete."""
    found: dict[str, list[float]] = defaultdict(list)
    async with start_testbed(limits=_HIGH_LIMITS) as testbed, start_agent("bench.load") as caller:
        await caller.ask(kind="batch", addresses=testbed.system.gateways, count=_WARM_UP, chunk=100)
        await testbed.until_taken(_WARM_UP)
        await testbed.until_done(topo.ACCEPT, topo.EVENT)
        for repetition in range(repetitions):
            for n in range(len(ARMS)):
                await _measure(testbed, ARMS[(repetition + n) % len(ARMS)], caller, messages, found)
            found["idle"].append(await _idle_ms(testbed))
    setting = {"repetitions": repetitions, "messages": messages, "provider_rate": 2000, "fleet_rate": 10_000}
    return Result("whole_way", "From end to end, limits lifted", setting, _figures(found), _NOTES)


async def _idle_ms(testbed: Testbed) -> float:
    """Return the CPU milliseconds that our processes use in a second without messages."""
    watch = testbed.stopwatch()
    await asyncio.sleep(_IDLE_S)
    return total(watch.read(), OURS) / _IDLE_S * 1e3


async def _measure(testbed: Testbed, arm: str, caller: Agent, messages: int, found: dict[str, list[float]]) -> None:
    await testbed.clear_arrivals()
    watch, began = testbed.stopwatch(), time.monotonic()
    taken = asyncio.create_task(testbed.until_taken(messages), name="until-taken")
    try:
        if arm == "BatchSend":
            await caller.ask(kind="batch", addresses=testbed.system.gateways, count=messages, chunk=_CHUNK)
        else:
            await caller.ask(kind="counted", addresses=testbed.system.gateways, count=messages, in_flight=64)
        await taken
    finally:
        taken.cancel()
    stamps = [one["at_ns"] for lane in (await testbed.arrivals()).values() for one in lane]
    await testbed.until_done(topo.ACCEPT, topo.EVENT, topo.SEND)
    used, seconds = watch.read(), time.monotonic() - began
    found[f"{arm}/sent"].append((len(stamps) - 1) / ((max(stamps) - min(stamps)) / 1e9))
    found[f"{arm}/stored"].append(messages / seconds)
    found[f"{arm}/ours"].append(total(used, OURS) / messages * 1e3)
    for kind in (*OURS, *_OTHERS):
        found[f"{arm}/{kind}"].append(total(used, [kind]) / messages * 1e3)


def _figures(found: dict[str, list[float]]) -> list[Figure]:
    figures = []
    for arm in ARMS:
        figures += [
            Figure(f"sent, by {arm}", "/s", found[f"{arm}/sent"]),
            Figure(f"sent and stored in the history, by {arm}", "/s", found[f"{arm}/stored"]),
            Figure(f"CPU of our processes for a message, by {arm}", "ms", found[f"{arm}/ours"], "<= 1.5"),
        ]
    for arm in ARMS:
        figures += [
            Figure(f"CPU for a message, by {arm}: {kind}", "ms", found[f"{arm}/{kind}"]) for kind in (*OURS, *_OTHERS)
        ]
    figures.append(Figure("CPU of our processes in a second without messages", "ms", found["idle"]))
    return figures


_NOTES = (
    (
        "One gateway, one coordinator, five dispatchers, one projector; rates of 2,000 a second for each provider "
        "and 10,000 for all, so that only the machine limits. Providers answer after 50 ms."
    ),
    (
        "CPU is user and system time of whole processes, from the first call until the history is complete, "
        "including what they use when idle. `gateway`, `dispatcher`, `coordinator` and `projector` are ours; nats-"
        "server, PostgreSQL and the simulated providers are listed separately; the caller is not counted."
    ),
)

BENCH = Bench("whole_way", run, {"repetitions": 5, "messages": 4_000}, {"repetitions": 1, "messages": 100})

if __name__ == "__main__":
    main(BENCH)
