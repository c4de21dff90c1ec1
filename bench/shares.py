"""Where the time of a message goes: the share of each package in each of our processes, by cProfile."""

import asyncio
import pathlib
import pstats
import re
import signal
import time
from collections import defaultdict
from collections.abc import Mapping

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.figure import Figure, Result
from bench.testbed import Limits, Testbed, TestbedFailed, start_testbed
from messaging.stream import topology as topo
from ops.embedded.child import free_port
from ops.up import wait_until_serving

_HIGH_LIMITS = Limits(provider=300, fleet=300)  # a profiled process is slow; at a higher rate its lease would expire
_PROVIDER = "p1"
_STOP_S = 20.0
_LEAST = 0.01
_WARM_UP = 50
_ROOT = pathlib.Path(__file__).parents[1]
_OUTSIDE = re.compile(r"site-packages/([A-Za-z_]+)")
_WAITS = ("select.epoll", "time.sleep", "_thread.lock")
_LOOP = "asyncio, and what it runs in C (gRPC)"
_PROCESSES = {
    "gateway": ("gateway_grpc",),
    "dispatcher": ("dispatcher", "work", "--provider", _PROVIDER),
    "projector": ("dispatcher", "project"),
}

Function = tuple[str, int, str]


def package_of(function: Function) -> str:
    """Return the package of a function; empty for functions that are built into Python. Pure."""
    path = function[0]
    if path == "~":
        return ""
    if found := _OUTSIDE.search(path):
        return found[1]
    if path.startswith(str(_ROOT)):
        return path.removeprefix(str(_ROOT)).lstrip("/").split("/")[0]
    return _LOOP if "/asyncio/" in path else "standard library"


def by_package(
    stats: Mapping[Function, tuple[int, int, float, float, Mapping[Function, tuple[int, int, float, float]]]],
) -> dict[str, float]:
    """Sum the seconds by package. Built-in functions count for their callers; waiting is left out. Pure."""
    seconds: dict[str, float] = defaultdict(float)
    for function, (_, _, own, _, callers) in stats.items():
        if any(word in function[2] for word in _WAITS):
            continue
        if package := package_of(function):
            seconds[package] += own
            continue
        for caller, (_, _, part, _) in callers.items():
            seconds[package_of(caller) or "standard library"] += part
    return seconds


async def run(repetitions: int, messages: int) -> Result:
    """Profile all three processes at once, in a new system in each round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _PROCESSES}
    for _ in range(repetitions):
        async with start_testbed(limits=_HIGH_LIMITS, providers=(_PROVIDER,), dispatchers_each=0) as testbed:
            for name, seconds in (await _profile(testbed, messages)).items():
                total = sum(seconds.values())
                found[name].append({package: 100 * value / total for package, value in seconds.items()})
    setting = {"repetitions": repetitions, "messages": messages}
    return Result("shares", "Where the time of a message goes", setting, _figures(found), _NOTES)


async def _profile(testbed: Testbed, messages: int) -> dict[str, dict[str, float]]:
    """Run a system with profiled processes; returns the seconds of each by package."""
    system, listen = testbed.system, f"127.0.0.1:{free_port()}"
    await testbed.end("projector-1")  # the profiled one takes its place
    for name, command in _PROCESSES.items():
        system.spawn(f"profiled-{name}", "bench.profiler", str(_target(testbed, name)), *command, SMSGW_LISTEN=listen)
    system.gateways = [listen]
    await wait_until_serving(system)
    async with start_agent("bench.load") as caller:
        await _send(testbed, caller, min(messages, _WARM_UP), 0)
        await testbed.signal("profiled", signal.SIGUSR1)
        await _send(testbed, caller, messages, min(messages, _WARM_UP))
        await testbed.signal("profiled", signal.SIGUSR2)
    found = {}
    for name in _PROCESSES:
        await asyncio.to_thread(_await_file, _target(testbed, name))
        found[name] = by_package(pstats.Stats(str(_target(testbed, name))).stats)  # type: ignore[attr-defined]
    return found


async def _send(testbed: Testbed, caller: Agent, messages: int, before: int) -> None:
    """Send `messages`, and wait until they are in the history; `before` were sent earlier."""
    await caller.ask(kind="batch", addresses=testbed.system.gateways, count=messages, chunk=min(500, messages))
    await testbed.until_taken(before + messages)
    await testbed.until_done(topo.ACCEPT, topo.EVENT)


def _await_file(path: pathlib.Path) -> None:
    end = time.monotonic() + _STOP_S
    while not path.exists():
        if time.monotonic() > end:
            raise TestbedFailed(f"no {path.name}")
        time.sleep(0.05)


def _target(testbed: Testbed, name: str) -> pathlib.Path:
    return testbed.system.folder / f"{name}.prof"


def _figures(profiles: Mapping[str, list[dict[str, float]]]) -> list[Figure]:
    """Return the packages that take at least 1 %, the largest first; the rest is `others`."""
    figures = []
    for name, rounds in profiles.items():
        packages = {package for one in rounds for package in one}
        means = {package: sum(one.get(package, 0.0) for one in rounds) / len(rounds) for package in packages}
        shown = sorted((one for one in packages if means[one] >= 100 * _LEAST), key=means.__getitem__, reverse=True)
        figures += [Figure(f"{name}: {one}", "%", [found.get(one, 0.0) for found in rounds]) for one in shown]
        rest = [sum(value for package, value in one.items() if package not in shown) for one in rounds]
        figures.append(Figure(f"{name}: others", "%", rest))
    return figures


_NOTES = (
    (
        "CPU time by cProfile, which makes many small calls look more expensive than they are: read the shares, not"
        " the times. What is built into Python counts for the package that calls it."
    ),
    "BatchSend into one gateway, one dispatcher and one projector, after a warm-up, until the history is complete.",
)

BENCH = Bench("shares", run, {"repetitions": 5, "messages": 300}, {"repetitions": 1, "messages": 50})

if __name__ == "__main__":
    main(BENCH)
