"""How the division of the rate grows with the fleet: a simulation of real lease holders and coordinators.

Time is virtual and the bucket is in memory, so these figures hold on every machine; only the milliseconds are measured.
"""

import asyncio
import json
import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import structlog

from bench.command import Bench, main
from bench.figure import Figure, Result
from dispatcher.rate.allocator import Allocator
from messaging.documents import ALLOC, Lease, Table, read_table
from tests.unit.dispatcher.rate.large_fleet import BUSY, LITTLE, PROVIDER_RATE, LargeFleet
from tests.unit.virtual_time import run_whole

_PODS_EACH = 2.5
_REST_S, _SETTLE_S = 20.0, 8.0
_STEPS, _STEP_S = 40, 0.25
_PAYLOAD_BYTES = 1_048_576
"""The longest value of a bucket: nats-server's own limit of a message."""

Found = dict[str, list[float]]


async def run(repetitions: int, seconds: float, sizes: list[int]) -> Result:
    """Simulate a fleet of each size, in processes of their own because they have their own clocks."""
    figures: list[Figure] = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for size in sizes:
            found: dict[str, list[float]] = defaultdict(list)
            for seed in range(repetitions):
                one = await asyncio.get_running_loop().run_in_executor(pool, measure, size, seconds, seed)
                for name, value in one.items():
                    found[name].append(value)
            figures += _figures(found, size)
    setting = {"repetitions": repetitions, "seconds": seconds, "sizes": sizes}
    return Result("fleet_scale", "Cost as the fleet grows (simulation)", setting, figures, _NOTES)


def measure(pods: int, seconds: float, seed: int) -> dict[str, float]:
    """Simulate one fleet, and time the allocator and the reader of its table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    random.seed(seed)
    providers = max(2, round(pods / _PODS_EACH))
    return run_whole(_simulate(pods, providers, seconds, seed)) | _timed(pods, providers)


async def _simulate(pods: int, providers: int, seconds: float, seed: int) -> dict[str, float]:
    """Let all rest, give work to half of the providers, then to the other half; check that the limit held."""
    fleet = LargeFleet(time.monotonic, pods, providers, seed)
    await asyncio.sleep(_REST_S)
    found = _rates(fleet, "at rest", await _count(fleet, seconds), seconds)
    fleet.give_work(lambda provider: provider % 2 == 0, LITTLE)
    found["work"] = await fleet.convergence_s(_SETTLE_S)
    fleet.give_work(lambda provider: provider % 2 == 1, LITTLE)
    found["change"] = await fleet.convergence_s(_SETTLE_S)
    found |= _rates(fleet, "at work", await _count(fleet, seconds), seconds)
    found["table"] = fleet.table_bytes()
    await fleet.close()
    fleet.check()
    return found


async def _count(fleet: LargeFleet, seconds: float) -> tuple[float, float]:
    traffic = await fleet.counted(seconds)
    return sum(traffic.requests.values()), traffic.read_bytes + traffic.pushed_bytes


def _rates(fleet: LargeFleet, when: str, counted: tuple[float, float], seconds: float) -> dict[str, float]:
    requests, size = counted
    return {
        f"requests {when}": requests / seconds,
        f"requests of a pod {when}": requests / seconds / len(fleet.pods),
        f"bytes {when}": size / seconds / 1e6,
    }


def _timed(pods: int, providers: int) -> dict[str, float]:
    """Time the allocator's step while demands change, and the reading of its table, in milliseconds."""
    rates = {f"p{n}": PROVIDER_RATE for n in range(providers)}
    allocator = Allocator(providers * PROVIDER_RATE // 2, rates, Table(), 0.0)
    took = []
    for step in range(_STEPS):
        made = enumerate(_leases(allocator, pods, providers, step))
        leases = {f"pod-{n}": (step * pods + n + 1, lease) for n, lease in made}
        began = time.perf_counter()
        allocator.observe(leases, step * _STEP_S)
        allocator.step(step * _STEP_S)
        took.append(time.perf_counter() - began)
    text = json.dumps(allocator.table.to_document())
    began = time.perf_counter()
    read_table(ALLOC, json.loads(text))
    return {"step": sum(took) / len(took) * 1e3, "longest step": max(took) * 1e3, "read": _since_ms(began)}


def _leases(allocator: Allocator, pods: int, providers: int, step: int) -> Iterator[Lease]:
    """Make a lease for each pod; the providers with work change every ten steps."""
    for n in range(pods):
        busy = n % providers % 2 == step // 10 % 2
        yield Lease(f"p{n % providers}", BUSY if busy else LITTLE, version=allocator.table.version)


def _since_ms(began: float) -> float:
    return (time.perf_counter() - began) * 1e3


def _figures(found: Found, size: int) -> list[Figure]:
    most = [_PAYLOAD_BYTES / (table / size) for table in found["table"]]
    return [
        Figure("shares settled after work came to pods at rest", "s", found["work"], "<= 2", size),
        Figure("shares settled after work moved to other providers", "s", found["change"], "<= 2", size),
        Figure("requests to the bucket, all pods at work", "/s", found["requests at work"], at=size),
        Figure("requests to the bucket ÷ pods, all at work", "/s", found["requests of a pod at work"], at=size),
        Figure("requests to the bucket, all pods at rest", "/s", found["requests at rest"], at=size),
        Figure("requests to the bucket ÷ pods, all at rest", "/s", found["requests of a pod at rest"], at=size),
        Figure("read from the bucket, all pods at work", "MB/s", found["bytes at work"], at=size),
        Figure("read from the bucket, all pods at rest", "MB/s", found["bytes at rest"], at=size),
        Figure("the table of shares", "bytes", found["table"], at=size),
        Figure("pods whose table is as long as a message may be", "pods", most, at=size),
        Figure("one step of the allocator, mean", "ms", found["step"], at=size),
        Figure("one step of the allocator, longest", "ms", found["longest step"], at=size),
        Figure("reading the table", "ms", found["read"], at=size),
    ]


_NOTES = (
    (
        "Simulated in virtual time: the real lease holders, pacers and two coordinators on a bucket in memory whose"
        " answers take up to 8 ms. Five pods for two providers of 50 a second; the fleet's limit is half of what the"
        " providers take. In every run it is checked that no window could have more sends than the limit, nor than a"
        " provider's rate."
    ),
    (
        "A pod at work renews with one request while the table is unchanged. On three replicas such requests exclude"
        " one another, and one that is refused reads the table: then the bytes that are read may grow with the square"
        " of the pods at work. The bucket in memory has one replica."
    ),
    "Only the milliseconds are measured, on one core of this machine.",
)

BENCH = Bench(
    "fleet_scale",
    run,
    {"repetitions": 3, "seconds": 10.0, "sizes": [10, 50, 200, 500]},
    {"repetitions": 1, "seconds": 2.0, "sizes": [10, 50]},
)

if __name__ == "__main__":
    main(BENCH)
