"""BatchSend: messages accepted a second, compared with nats-py's own pipelined publishing of the same bytes."""

import contextlib
from collections import defaultdict

from bench.agent import Agent, start_agent
from bench.command import Bench, main
from bench.figure import Figure, Result
from bench.spread import ratios
from bench.testbed import Testbed, start_testbed

ARMS = ("gateway", "nats-py", "nats-py, plain publish")
_CHUNK = 500


async def run(repetitions: int, messages: int) -> Result:
    """Measure every arm once in each round; each round starts with another arm."""
    found: dict[str, list[float]] = defaultdict(list)
    async with contextlib.AsyncExitStack() as stack:
        testbed = await stack.enter_async_context(
            start_testbed(dispatchers_each=0, coordinators=0, projectors=0, providers=("p1", "p2", "p3"))
        )
        caller = await stack.enter_async_context(start_agent("bench.load"))
        await caller.ask(kind="batch", addresses=testbed.system.gateways, count=messages // 4, chunk=_CHUNK)
        floor = await stack.enter_async_context(start_agent("bench.floor", SMSGW_NATS_URL=testbed.url))
        await floor.ask(kind="pipeline", count=messages // 4, conditional=True)
        for repetition in range(repetitions):
            for n in range(len(ARMS)):
                await _measure(testbed, ARMS[(repetition + n) % len(ARMS)], caller, floor, messages, found)
    setting = {"repetitions": repetitions, "messages": messages, "chunk": _CHUNK}
    return Result("batch_send", "BatchSend accepted a second", setting, _figures(found), _NOTES)


async def _measure(
    testbed: Testbed, arm: str, caller: Agent, floor: Agent, messages: int, found: dict[str, list[float]]
) -> None:
    await testbed.purge()
    watch = testbed.stopwatch()
    if arm == "gateway":
        answer = await caller.ask(kind="batch", addresses=testbed.system.gateways, count=messages, chunk=_CHUNK)
    else:
        answer = await floor.ask(kind="pipeline", count=messages, conditional=arm == "nats-py")
    used = watch.read()
    found[arm].append(answer["accepted"] / answer["seconds"])
    if arm == "gateway":
        found["CPU"].append(used["gateway-1"] / answer["accepted"] * 1e3)
        found["refused"].append(messages - answer["accepted"])


def _figures(found: dict[str, list[float]]) -> list[Figure]:
    figures = [
        Figure("gateway ÷ nats-py", "×", ratios(found["gateway"], found["nats-py"])),
        Figure("gateway ÷ nats-py with plain publish", "×", ratios(found["gateway"], found["nats-py, plain publish"])),
    ]
    figures += [Figure(f"accepted: {arm}", "/s", found[arm], ">= 10000" if arm == "gateway" else "") for arm in ARMS]
    figures.append(Figure("CPU of the gateway for a message", "ms", found["CPU"]))
    figures.append(Figure("refused", "messages", found["refused"], "<= 0"))
    return figures


_NOTES = (
    (
        "One stream with chunks of 500 into one gateway process. For comparison one process publishes the same "
        "bytes and headers with `js.publish_async` and 256 in flight, without gRPC: it receives, checks and answers"
        " nothing."
    ),
    "The caller builds its requests before the clock starts, and shares the cores with the gateway.",
)

BENCH = Bench("batch_send", run, {"repetitions": 5, "messages": 20_000}, {"repetitions": 1, "messages": 1_000})

if __name__ == "__main__":
    main(BENCH)
