"""How costs grow with the backlog: memory, accepting and dispatching with many waiting messages."""

import asyncio
import contextlib
import time

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.cpu import rss_bytes
from bench.figure import Figure, Result
from bench.testbed import Limits, Testbed, TestbedFailed, start_testbed
from messaging.stream import topology as topo
from ops.percentile import percentile

_HIGH_LIMITS = Limits(provider=2000, fleet=10_000)
_IN_FLIGHT = 64
_RAMP_S = 3.0
_PATIENCE_S = 300.0


async def run(repetitions: int, seconds: float, sizes: list[int]) -> Result:
    """Grow the backlog step by step; at each size first accept more messages, then dispatch."""
    figures: list[Figure] = []
    async with contextlib.AsyncExitStack() as stack:
        testbed = await stack.enter_async_context(start_testbed(limits=_HIGH_LIMITS, dispatchers_each=0, projectors=0))
        caller = await stack.enter_async_context(start_agent("bench.load"))
        await caller.ask(kind="counted", addresses=testbed.system.gateways, count=1, in_flight=1)
        seeder = await stack.enter_async_context(start_agent("bench.seeder", SMSGW_NATS_URL=testbed.url))
        for size in sizes:
            await _fill(testbed, seeder, size)
            figures += await _accepting(testbed, caller, size, repetitions, seconds)
            figures += await _dispatching(testbed, size, repetitions, seconds)
    setting = {"repetitions": repetitions, "seconds": seconds, "sizes": sizes}
    return Result("waiting", "Cost as the backlog grows", setting, figures, _NOTES)


async def _fill(testbed: Testbed, seeder: Agent, size: int) -> None:
    """Create a backlog of exactly `size` messages, and wait until all are in the work queue."""
    await testbed.purge()
    await seeder.ask(kind="waiting", count=size, providers=testbed.providers)
    end = time.monotonic() + _PATIENCE_S
    while (there := await testbed.pending(topo.SEND)) < size:
        if time.monotonic() > end:
            raise TestbedFailed(f"only {there} of {size} are queued")
        await asyncio.sleep(0.1)


async def _accepting(testbed: Testbed, caller: Agent, size: int, repetitions: int, seconds: float) -> list[Figure]:
    memory = _memory(testbed, "with the backlog", size)
    rates, slow = [], []
    for _ in range(repetitions):
        command = {"kind": "unary", "addresses": testbed.system.gateways, "in_flight": _IN_FLIGHT, "seconds": seconds}
        answer = await caller.ask(**command)
        rates.append(answer["accepted"] / answer["seconds"])
        slow.append(percentile(answer["took_ns"], 99) / 1e6)
    return [
        *memory,
        Figure("SendSms accepted", "/s", rates, at=size),
        Figure("SendSms answer p99", "ms", slow, at=size),
    ]


async def _dispatching(testbed: Testbed, size: int, repetitions: int, seconds: float) -> list[Figure]:
    """Start dispatchers with the full backlog, and count what the providers take in each interval."""
    names = [f"dispatcher-{name}-1" for name in testbed.providers]
    for name, process in zip(testbed.providers, names, strict=True):
        testbed.system.spawn(process, "dispatcher", "work", "--provider", name)
    before = await testbed.taken()
    await testbed.until_taken(before + 1)
    await asyncio.sleep(_RAMP_S if seconds >= 1 else seconds)
    rates = []
    for _ in range(repetitions):
        before, began = await testbed.taken(), time.monotonic()
        await asyncio.sleep(seconds)
        rates.append((await testbed.taken() - before) / (time.monotonic() - began))
    memory = _memory(testbed, "while dispatching", size)
    await asyncio.gather(*(testbed.end(name) for name in names))
    return [Figure("dispatched", "/s", rates, at=size), *memory]


def _memory(testbed: Testbed, when: str, size: int) -> list[Figure]:
    kinds = ("gateway", "coordinator", "dispatcher-p1", "nats-server")
    found = [(name, pid) for name, pid in testbed.pids().items() if name.startswith(kinds)]
    return [
        Figure(f"memory {when}: {name.removesuffix('-1')}", "MiB", [rss_bytes(pid) / 2**20], at=size)
        for name, pid in found
    ]


_NOTES = (
    (
        "The backlog is published directly into the stream, evenly over five providers and two lanes. First nothing"
        " is dispatched, and SendSms is called with 64 in flight. Then five dispatchers start, with rates raised to"
        " 2,000 a second each, so that only the machine limits them. The projector does not run: it has no part in "
        "the backlog."
    ),
    "Memory is resident memory, read once for each size.",
)

BENCH = Bench(
    "waiting",
    run,
    {"repetitions": 5, "seconds": 2.0, "sizes": [10_000, 100_000]},
    {"repetitions": 1, "seconds": 0.4, "sizes": [1_000]},
    {"sizes": [10_000, 100_000, 1_000_000]},
)

if __name__ == "__main__":
    main(BENCH)
