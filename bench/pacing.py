"""Pacing under backlog at the real rates: the fullest second, the part of the rate that is used, and the jitter."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Sequence

import attrs

from bench.agent import start_agent
from bench.command import Bench, main
from bench.figure import Figure, Result
from bench.testbed import start_testbed
from ops.percentile import percentile
from ops.simulator.call_log import highest_window
from ops.system import RATE_PER_S

FLEET_PER_S = 200
_CHUNK = 500
_SPARE = 1.2
_NS = 1_000_000_000


@attrs.frozen
class Arm:
    """A number of providers, which together may send `limit` a second in equal parts."""

    providers: int

    @property
    def name(self) -> str:
        """The name in figures."""
        return f"{self.providers} providers"

    @property
    def limit(self) -> int:
        """The sends a second that the limits allow."""
        return min(FLEET_PER_S, self.providers * RATE_PER_S)


def gaps_ms(times_ns: Sequence[int]) -> list[float]:
    """Return the milliseconds between each send and the next. Pure."""
    ordered = sorted(times_ns)
    return [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(ordered)]


async def run(repetitions: int, seconds: float, settle_s: float, providers: list[int]) -> Result:
    """Keep each system under backlog, and divide the time into one interval for each repetition."""
    figures = []
    for arm in map(Arm, providers):
        sends = await _sends(arm, seconds, settle_s)
        figures += _figures(arm, sends, seconds, repetitions)
    setting = {"repetitions": repetitions, "seconds": seconds, "settle_s": settle_s, "providers": providers}
    return Result("pacing", "Pacing under backlog", setting, figures, _NOTES)


async def _sends(arm: Arm, seconds: float, settle_s: float) -> dict[str, list[int]]:
    """Return the arrivals (Unix ns) at each provider within the measured seconds."""
    providers = tuple(f"p{n + 1}" for n in range(arm.providers))
    count = int(arm.limit * (seconds + settle_s) * _SPARE) + _CHUNK + arm.limit
    async with start_testbed(providers=providers) as testbed, start_agent("bench.load") as caller:
        await caller.ask(kind="batch", addresses=testbed.system.gateways, count=count, chunk=_CHUNK)
        await testbed.until_taken(arm.limit)
        await asyncio.sleep(settle_s + seconds)
        arrivals = await testbed.arrivals()
    end = max(one["at_ns"] for lane in arrivals.values() for one in lane)
    began = end - int(seconds * _NS)
    return {name: [one["at_ns"] for one in lane if one["at_ns"] >= began] for name, lane in arrivals.items()}


def _figures(arm: Arm, sends: dict[str, list[int]], seconds: float, repetitions: int) -> list[Figure]:
    began = max(at for lane in sends.values() for at in lane) - int(seconds * _NS)
    part = int(seconds * _NS / repetitions)
    found: dict[str, list[float]] = defaultdict(list)
    for n in range(repetitions):
        low, high = began + n * part, began + (n + 1) * part
        lanes = [[at for at in lane if low < at <= high] for lane in sends.values()]
        together = [at for lane in lanes for at in lane]
        ideal_ms = 1000 * arm.providers / arm.limit
        gaps = [gap for lane in lanes for gap in gaps_ms(lane)]
        found["used"].append(len(together) / (part / _NS) / arm.limit)
        found["fleet"].append(highest_window(together))
        found["provider"].append(max(highest_window(lane) for lane in lanes))
        found["p50"].append(percentile(gaps, 50) / ideal_ms)
        found["p99"].append(percentile(gaps, 99) / ideal_ms)
        found["off"].append(percentile([abs(gap - ideal_ms) for gap in gaps], 50))
    whole = [at for lane in sends.values() for at in lane]
    name = arm.name
    return [
        Figure(f"share of the limit used, {name}", "×", found["used"]),
        Figure(f"most of all in a second, {name}", "sends", found["fleet"], f"<= {arm.limit}"),
        Figure(f"most of one provider in a second, {name}", "sends", found["provider"], f"<= {RATE_PER_S}"),
        Figure(
            f"most of all in a second of the whole time, {name}", "sends", [highest_window(whole)], f"<= {arm.limit}"
        ),
        Figure(f"gap between sends ÷ even gap, p50, {name}", "×", found["p50"]),
        Figure(f"gap between sends ÷ even gap, p99, {name}", "×", found["p99"]),
        Figure(f"distance from the even gap, median, {name}", "ms", found["off"]),
    ]


_NOTES = (
    (
        "The repetitions are parts of one uninterrupted run, measured with the kernel's receive time stamps. "
        "Windows start anywhere and are half open. Windows that cross from one part into the next are included in "
        "`the whole time`."
    ),
    (
        "5 providers of 50 a second may use 200 together: the fleet's limit applies, and even gaps of one provider "
        "are 25 ms. 3 may use 150: each provider's own limit applies, and even gaps are 20 ms."
    ),
)

BENCH = Bench(
    "pacing",
    run,
    {"repetitions": 5, "seconds": 60.0, "settle_s": 6.0, "providers": [5, 3]},
    {"repetitions": 1, "seconds": 1.0, "settle_s": 0.5, "providers": [3]},
)

if __name__ == "__main__":
    main(BENCH)
