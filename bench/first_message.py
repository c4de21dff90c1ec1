"""The first message: after the first start, after a rest, and after a clean restart."""

import asyncio
import shutil
from collections import defaultdict

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.figure import Figure, Result
from bench.testbed import Testbed, new_folder, start_testbed


async def run(repetitions: int, rest_s: float) -> Result:
    """Start a system in a new folder, let it rest, and start it again; each time send one message."""
    found: dict[str, list[float]] = defaultdict(list)
    async with start_agent("bench.load") as caller:
        for _ in range(repetitions):
            data = new_folder()
            async with start_testbed(data=data) as testbed:
                found["first"].append(await _one(testbed, caller))
                await asyncio.sleep(rest_s)
                found["rest"].append(await _one(testbed, caller))
            async with start_testbed(data=data) as testbed:
                found["restart"].append(await _one(testbed, caller))
            shutil.rmtree(data, ignore_errors=True)
    figures = [
        Figure("first start", "ms", found["first"], "<= 300"),
        Figure("clean restart", "ms", found["restart"], "<= 300"),
        Figure(f"after {rest_s:g} s without a message", "ms", found["rest"], "<= 300"),
    ]
    setting = {"repetitions": repetitions, "rest_s": rest_s}
    return Result("first_message", "The first message", setting, figures, _NOTES)


async def _one(testbed: Testbed, caller: Agent) -> float:
    """Send one message; return the milliseconds until it was at a provider's socket."""
    await testbed.clear_arrivals()
    before = await testbed.taken()
    providers = testbed.providers[:1]
    answer = await caller.ask(kind="burst", addresses=testbed.system.gateways, count=1, providers=providers)
    await testbed.until_taken(before + 1)
    (arrived,) = [one["at_ns"] for lane in (await testbed.arrivals()).values() for one in lane]
    return float(arrived - answer["began_ns"]) / 1e6


_NOTES = (
    (
        "The message is sent right after the gateway has told SERVING, over a new connection, and is a one-time code. "
        "The time ends when the kernel has the request at the provider's socket."
    ),
)

BENCH = Bench(
    "first_message",
    run,
    {"repetitions": 5, "rest_s": 20.0},
    {"repetitions": 1, "rest_s": 6.0},
    {"rest_s": 600.0},
)

if __name__ == "__main__":
    main(BENCH)
