"""Where the time of a message goes: the shares of packages in each of our processes, by cProfile."""

import asyncio
import pathlib
import pstats
import re
import signal
import time
from collections import defaultdict
from collections.abc import Mapping

from bench.command import Bench, main
from bench.figure import Figure, Result
from bench.hand import Hand, hired
from bench.stage import Limits, Stage, StageFailed, staged
from messaging.stream import topology as topo
from ops.embedded.child import free_port
from ops.up import wait_until_serving

_LIFTED = Limits(provider=300, fleet=300)  # a profiled process is slow: with more, its lease would run out
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
    """Name the package in which a function lies; empty for what is built into Python. Pure."""
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
    """Sum the seconds by package; what is built into Python counts for who calls it, and waiting for nobody. Pure."""
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
    """Profile all three at once, in a system of their own in each round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _PROCESSES}
    for _ in range(repetitions):
        async with staged(limits=_LIFTED, providers=(_PROVIDER,), dispatchers_each=0) as stage:
            for name, seconds in (await _profile(stage, messages)).items():
                total = sum(seconds.values())
                found[name].append({package: 100 * value / total for package, value in seconds.items()})
    setting = {"repetitions": repetitions, "messages": messages}
    return Result("shares", "Where the time of a message goes", setting, _figures(found), _NOTES)


async def _profile(stage: Stage, messages: int) -> dict[str, dict[str, float]]:
    """Let profiled processes do a system's work, and give the seconds of each by package."""
    system, listen = stage.system, f"127.0.0.1:{free_port()}"
    await stage.end("projector-1")  # the profiled one does its work
    for name, command in _PROCESSES.items():
        system.spawn(f"profiled-{name}", "bench.profiled", str(_target(stage, name)), *command, SMSGW_LISTEN=listen)
    system.gateways = [listen]
    await wait_until_serving(system)
    async with hired("bench.load") as caller:
        await _send(stage, caller, min(messages, _WARM_UP), 0)
        await stage.signal("profiled", signal.SIGUSR1)
        await _send(stage, caller, messages, min(messages, _WARM_UP))
        await stage.signal("profiled", signal.SIGUSR2)
    found = {}
    for name in _PROCESSES:
        await asyncio.to_thread(_await_file, _target(stage, name))
        found[name] = by_package(pstats.Stats(str(_target(stage, name))).stats)  # type: ignore[attr-defined]
    return found


async def _send(stage: Stage, caller: Hand, messages: int, before: int) -> None:
    """Send so many, and wait until they are in the history."""
    await caller.ask(kind="batch", addresses=stage.system.gateways, count=messages, chunk=min(500, messages))
    await stage.until_taken(before + messages)
    await stage.until_done(topo.ACCEPT, topo.EVENT)


def _await_file(path: pathlib.Path) -> None:
    end = time.monotonic() + _STOP_S
    while not path.exists():
        if time.monotonic() > end:
            raise StageFailed(f"no {path.name}")
        time.sleep(0.05)


def _target(stage: Stage, name: str) -> pathlib.Path:
    return stage.system.folder / f"{name}.prof"


def _figures(profiles: Mapping[str, list[dict[str, float]]]) -> list[Figure]:
    """Give the packages that take at least a hundredth, the dearest first; the rest is `others`."""
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
