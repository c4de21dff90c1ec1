"""How costs grow with the number of stored messages: reading one, listing many, and writing the history."""

import base64
import contextlib
import random
import signal
import time
from typing import Any

from bench import stored_rows
from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.cpu import rss_bytes
from bench.figure import Figure, Result
from bench.testbed import Testbed, TestbedFailed, start_testbed
from messaging.stream import topology as topo
from ops.percentile import percentile

_DAYS_BACK_MS = 6 * 86_400_000
_PAGE = 50


async def run(repetitions: int, reads: int, stories: int, sizes: list[int]) -> Result:
    """Grow the tables step by step; at each size measure reads, lists and projections."""
    figures: list[Figure] = []
    first_ms = int(time.time() * 1000) - _DAYS_BACK_MS
    async with contextlib.AsyncExitStack() as stack:
        testbed = await stack.enter_async_context(start_testbed(dispatchers_each=0, coordinators=0, providers=("p1",)))
        caller = await stack.enter_async_context(start_agent("bench.load"))
        await caller.ask(kind="counted", addresses=testbed.system.gateways, count=1, in_flight=1)
        seeder = await stack.enter_async_context(start_agent("bench.seeder", SMSGW_NATS_URL=testbed.url))
        await testbed.until_done(topo.ACCEPT, topo.EVENT)
        there, url = 0, testbed.system.environment["SMSGW_DATABASE_URL"]
        await stored_rows.prepare(url)
        for size in sizes:
            await stored_rows.grow(url, there, size, first_ms)
            there = size
            queries = _Queries(size, first_ms)
            figures += await _reading(testbed, caller, queries, repetitions, reads)
            figures += await _projecting(testbed, seeder, size, repetitions, stories)
    setting = {"repetitions": repetitions, "reads": reads, "stories": stories, "sizes": sizes}
    return Result("stored", "Cost as the history grows", setting, figures, _NOTES)


class _Queries:
    """The calls of the load for a history of `size` messages; the same in every run."""

    def __init__(self, size: int, first_ms: int) -> None:
        self._size = size
        self._first_ms = first_ms
        self._random = random.Random(size)  # noqa: S311 - the same queries in every run
        self.kinds = {
            "GetStatus": self.one,
            "ListMessages, first page": self.first_page,
            "ListMessages, a page far back": self.far_page,
            "ListMessages, of a recipient": self.of_recipient,
            "ListMessages, failed at a provider": self.failed,
        }

    def one(self) -> dict[str, Any]:
        return {"message_id": str(stored_rows.message_id(self._any(), self._first_ms))}

    def first_page(self) -> dict[str, Any]:
        return {"page_size": _PAGE}

    def far_page(self) -> dict[str, Any]:
        known = stored_rows.message_id(self._any(), self._first_ms)
        return {"page_size": _PAGE, "page_token": base64.urlsafe_b64encode(known.bytes).decode()}

    def of_recipient(self) -> dict[str, Any]:
        return {"page_size": _PAGE, "recipient": f"+23320{self._any() % 10_000_000:07d}"}

    def failed(self) -> dict[str, Any]:
        return {"page_size": _PAGE, "states": [8], "provider": "p1"}

    def _any(self) -> int:
        return self._random.randrange(self._size)


async def _reading(testbed: Testbed, caller: Agent, queries: _Queries, repetitions: int, reads: int) -> list[Figure]:
    middle: dict[str, list[float]] = {kind: [] for kind in queries.kinds}
    slow: dict[str, list[float]] = {kind: [] for kind in queries.kinds}
    for _ in range(repetitions):
        for kind, make in queries.kinds.items():
            asked = [make() for _ in range(reads)]
            method = kind.partition(",")[0]
            answer = await caller.ask(kind="read", addresses=testbed.system.gateways, method=method, requests=asked)
            if answer["found"] < reads:
                raise TestbedFailed(f"{kind} found only {answer['found']} in {reads} calls")
            middle[kind].append(percentile(answer["took_ns"], 50) / 1e6)
            slow[kind].append(percentile(answer["took_ns"], 99) / 1e6)
    size = float(queries._size)  # noqa: SLF001 - of this module
    return [
        *(Figure(f"{kind}, p50", "ms", values, at=size) for kind, values in middle.items()),
        *(Figure(f"{kind}, p99", "ms", values, at=size) for kind, values in slow.items()),
    ]


async def _projecting(testbed: Testbed, seeder: Agent, size: int, repetitions: int, stories: int) -> list[Figure]:
    """Publish histories while the projector is paused, and measure the time until it has written them."""
    rates, cpu = [], []
    for _ in range(repetitions):
        await testbed.signal("projector", signal.SIGSTOP)
        made = (await seeder.ask(kind="stories", count=stories, provider="p1"))["made"]
        watch, began = testbed.stopwatch(), time.monotonic()
        await testbed.signal("projector", signal.SIGCONT)
        await testbed.until_done(topo.ACCEPT, topo.EVENT)
        rates.append(made / (time.monotonic() - began))
        cpu.append(watch.read()["projector-1"] / stories * 1e3)
    pids = testbed.pids()
    memory = [
        Figure(f"memory: {name.removesuffix('-1')}", "MiB", [rss_bytes(pids[name]) / 2**20], at=size)
        for name in ("projector-1", "gateway-1", "postgres")
    ]
    return [
        Figure("projected", "records/s", rates, at=size),
        Figure("CPU of the projector for a message", "ms", cpu, at=size),
        *memory,
    ]


_NOTES = (
    (
        "The rows are made by COPY, with one attempt and two events for each message, over the last six days. None "
        "of these messages is on the stream any more, so GetStatus first asks the stream without success and then "
        "reads the store. One caller makes one call after the other."
    ),
    "A projected message is three records: its acceptance and two events.",
    "PostgreSQL runs without fsync, as in every test. Its memory counts shared pages once for each of its processes.",
)

BENCH = Bench(
    "stored",
    run,
    {"repetitions": 5, "reads": 100, "stories": 1000, "sizes": [10_000, 100_000, 1_000_000]},
    {"repetitions": 1, "reads": 5, "stories": 50, "sizes": [1_000]},
    {"sizes": [10_000, 100_000, 1_000_000, 10_000_000]},
)

if __name__ == "__main__":
    main(BENCH)
