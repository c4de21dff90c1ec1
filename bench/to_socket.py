"""From SendSms to the provider's socket on an idle system, one message at a time, by the kernel's time stamps."""

import asyncio
from collections import defaultdict

from bench.agent import start_agent
from bench.command import Bench, main
from bench.figure import Figure, Result
from bench.testbed import start_testbed
from ops.percentile import percentile

_WARM_UP = 5
_PAUSE_S = 0.25
_SETTLE_S = 1.0


async def run(repetitions: int, messages: int, pause_s: float) -> Result:
    """Send messages with pauses, and read afterwards when each arrived."""
    found: dict[str, list[float]] = defaultdict(list)
    async with start_testbed() as testbed, start_agent("bench.load") as caller:
        gateways = testbed.system.gateways
        await caller.ask(kind="paced", addresses=gateways, count=_WARM_UP, pause_s=_PAUSE_S)
        await testbed.until_taken(_WARM_UP)
        await asyncio.sleep(_SETTLE_S)
        for _ in range(repetitions):
            await testbed.clear_arrivals()
            answer = await caller.ask(kind="paced", addresses=gateways, count=messages, pause_s=pause_s)
            await testbed.until_taken(messages)
            began = answer["began_ns"]
            arrived = {one["reference"]: one["at_ns"] for lane in (await testbed.arrivals()).values() for one in lane}
            ways = [(arrived[message_id] - at) / 1e6 for message_id, at in began.items()]
            took = [value / 1e6 for value in answer["took_ns"]]
            for percent, name in ((50, "p50"), (99, "p99")):
                found[f"to the socket {name}"].append(percentile(ways, percent))
                found[f"answer {name}"].append(percentile(took, percent))
    figures = [
        Figure("SendSms to the provider's socket, p50", "ms", found["to the socket p50"], "<= 8"),
        Figure("SendSms to the provider's socket, p99", "ms", found["to the socket p99"], "<= 30"),
        Figure("SendSms to its answer, p50", "ms", found["answer p50"]),
        Figure("SendSms to its answer, p99", "ms", found["answer p99"]),
    ]
    setting = {"repetitions": repetitions, "messages": messages, "pause_s": pause_s}
    return Result("to_socket", "From SendSms to the provider's socket", setting, figures, _NOTES)


_NOTES = (
    (
        "The whole system runs (gateway, coordinator, five dispatchers, projector) and has nothing else to do. The "
        "first time stamp is taken before the call is made, the second by the kernel when the request arrives."
    ),
    "Rate that nobody uses lies ready at the lanes, and the pause is long enough that no message waits for its turn.",
    "The p99 of so few messages is almost the slowest one.",
)

BENCH = Bench(
    "to_socket",
    run,
    {"repetitions": 5, "messages": 60, "pause_s": 0.25},
    {"repetitions": 1, "messages": 5, "pause_s": 0.15},
)

if __name__ == "__main__":
    main(BENCH)
