"""When questions leave: alone at once, together where many come, and nobody waits for company that does not come."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import virtual_time

from messaging.stream import write_batching as write_batching_module
from messaging.stream.write_batching import WriteBatching

APART = write_batching_module._APART_S


async def moments(
    clock: Callable[[], float], batching: WriteBatching, gaps: Iterable[float]
) -> list[tuple[float, float]]:
    """Let a question come after each gap of seconds; gives when each came and when it left."""
    found: list[tuple[float, float]] = []

    async def one() -> None:
        came = clock()
        await batching.leave()
        found.append((came, clock()))

    async with asyncio.TaskGroup() as group:
        for gap in gaps:
            await asyncio.sleep(gap)
            group.create_task(one())
    return found


def run(*gaps: float) -> list[tuple[float, float]]:
    told: list[tuple[float, float]] = virtual_time.run(lambda clock: moments(clock, WriteBatching(), gaps))
    return told


def test_one_that_comes_alone_leaves_at_once() -> None:
    assert all(left == came for came, left in run(*[APART] * 300))


def test_a_dense_row_leaves_together_and_none_waits_longer_than_a_gap() -> None:
    told = run(*[APART / 20] * 400)
    assert all(0 <= left - came <= APART * 1.01 for came, left in told)
    sizes = Counter(round(left / APART, 3) for _, left in told)
    assert len(sizes) <= 400 / 20 + 2
    assert [came for came, _ in told] == sorted(came for came, _ in told), "who came first leaves first"


def test_who_always_finds_too_few_companions_soon_waits_no_more() -> None:
    told = run(*[APART * 0.6] * 2000)
    waited = [n for n, (came, left) in enumerate(told) if left > came]
    assert len(waited) < 2000 / write_batching_module._TRY_EVERY * (write_batching_module._LEAN + 1)
    assert waited[-1] > 1900, "it is tried again from time to time"


def test_gathering_begins_again_when_the_row_gets_dense() -> None:
    told = run(*[APART * 0.6] * 500, *[APART / 20] * 400)
    late = told[-200:]
    assert len({left for _, left in late}) <= 200 / 20 + 2


def test_a_burst_after_silence_leaves_in_two_parts() -> None:
    told = run(1.0, *[0.0] * 99)
    assert Counter(round(left - came, 6) for came, left in told) == {0.0: 1, APART: 99}


def test_one_that_is_cancelled_while_it_waits_delays_nobody() -> None:
    async def work(clock: Callable[[], float]) -> None:
        batching = WriteBatching()
        await batching.leave()
        waiting = [asyncio.create_task(batching.leave()) for _ in range(5)]
        await asyncio.sleep(APART / 2)
        waiting[0].cancel()
        waiting[3].cancel()
        await asyncio.wait(waiting)
        assert [one.cancelled() for one in waiting] == [True, False, False, True, False]
        assert clock() <= APART * 1.01

    virtual_time.run(work)
