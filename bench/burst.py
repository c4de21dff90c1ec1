"""Bursts of one-time codes into an idle system: until the last one is at its provider, by the kernel's time stamps."""

import asyncio
from collections import defaultdict

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.figure import Figure, Result
from bench.testbed import Testbed, start_testbed
from ops.percentile import percentile

_SETTLE_S = 2.5
_RATE = 50
_GOALS = {20: "<= 120", 50: "<= 350"}


async def run(repetitions: int, bursts: int, sizes: list[int]) -> Result:
    """Send bursts of each size into one lane, and 20 over five lanes; before each, the system is idle again."""
    found: dict[str, list[float]] = defaultdict(list)
    async with start_testbed() as testbed, start_agent("bench.load") as caller:
        lanes = testbed.providers
        await asyncio.sleep(_SETTLE_S)
        for _ in range(repetitions):
            for size in sizes:
                ways = [await _burst(testbed, caller, size, lanes[:1]) for _ in range(bursts)]
                found[f"{size} p50"].append(percentile(ways, 50))
                found[f"{size} p99"].append(percentile(ways, 99))
            ways = [await _burst(testbed, caller, 20, lanes) for _ in range(bursts)]
            found["lanes p50"].append(percentile(ways, 50))
            found["lanes p99"].append(percentile(ways, 99))
    figures = []
    for size in sizes:
        best = max(0, size - _RATE) / _RATE * 1000
        figures.append(Figure(f"{size} into one lane, p50 (arithmetic best: {best:.0f})", "ms", found[f"{size} p50"]))
        figures.append(Figure(f"{size} into one lane, p99", "ms", found[f"{size} p99"], _GOALS.get(size, "")))
    figures.append(Figure("20 over five lanes, p50 (arithmetic best: 0)", "ms", found["lanes p50"]))
    figures.append(Figure("20 over five lanes, p99", "ms", found["lanes p99"]))
    setting = {"repetitions": repetitions, "bursts": bursts, "sizes": sizes}
    return Result("burst", "Bursts of one-time codes into an idle system", setting, figures, _NOTES)


async def _burst(testbed: Testbed, caller: Agent, size: int, lanes: list[str]) -> float:
    """Send one burst; return the milliseconds until the last request was at its provider's socket."""
    await testbed.clear_arrivals()
    before = await testbed.taken()
    answer = await caller.ask(kind="burst", addresses=testbed.system.gateways, count=size, providers=lanes)
    await testbed.until_taken(before + size)
    arrived = [one["at_ns"] for lane in (await testbed.arrivals()).values() for one in lane]
    await asyncio.sleep(_SETTLE_S)
    return float(max(arrived) - answer["began_ns"]) / 1e6


_NOTES = (
    (
        "The calls are made at once; the time ends when the kernel has the last request at a provider's socket. Each "
        "provider's limit is 50 a second, the fleet's is 200."
    ),
    "The arithmetic best counts the limit only: what goes beyond a second's worth waits until the window has passed.",
)

BENCH = Bench(
    "burst",
    run,
    {"repetitions": 3, "bursts": 8, "sizes": [1, 10, 20, 50, 100]},
    {"repetitions": 1, "bursts": 1, "sizes": [1, 20]},
    {"repetitions": 4, "bursts": 25},
)

if __name__ == "__main__":
    main(BENCH)
