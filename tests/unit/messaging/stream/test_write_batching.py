"""A single request is written at once, requests in quick succession together, and none waits without need."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import virtual_time

from messaging.stream import write_batching as write_batching_module
from messaging.stream.write_batching import WriteBatching

INTERVAL = write_batching_module._INTERVAL_S


async def moments(
    clock: Callable[[], float], batching: WriteBatching, gaps: Iterable[float]
) -> list[tuple[float, float]]:
    """Make a request after each gap of seconds; returns when each was made and when it was written."""
    found: list[tuple[float, float]] = []

    async def one() -> None:
        made = clock()
        await batching.wait()
        found.append((made, clock()))

    async with asyncio.TaskGroup() as group:
        for gap in gaps:
            await asyncio.sleep(gap)
            group.create_task(one())
    return found


def run(*gaps: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = virtual_time.run(lambda clock: moments(clock, WriteBatching(), gaps))
    return found


def test_a_single_request_is_written_at_once() -> None:
    assert all(written == made for made, written in run(*[INTERVAL] * 300))


def test_requests_in_quick_succession_are_written_together_and_none_waits_longer_than_the_interval() -> None:
    found = run(*[INTERVAL / 20] * 400)
    assert all(0 <= written - made <= INTERVAL * 1.01 for made, written in found)
    sizes = Counter(round(written / INTERVAL, 3) for _, written in found)
    assert len(sizes) <= 400 / 20 + 2
    assert [made for made, _ in found] == sorted(made for made, _ in found), "requests keep their order"


def test_requests_whose_batches_stay_too_small_soon_stop_waiting() -> None:
    found = run(*[INTERVAL * 0.6] * 2000)
    waited = [n for n, (made, written) in enumerate(found) if written > made]
    assert len(waited) < 2000 / write_batching_module._RETRY_EVERY * (write_batching_module._MAX_SMALL_BATCHES + 1)
    assert waited[-1] > 1900, "batching is tried again from time to time"


def test_batching_begins_again_when_requests_come_faster() -> None:
    found = run(*[INTERVAL * 0.6] * 500, *[INTERVAL / 20] * 400)
    late = found[-200:]
    assert len({written for _, written in late}) <= 200 / 20 + 2


def test_a_burst_after_silence_is_written_in_two_parts() -> None:
    found = run(1.0, *[0.0] * 99)
    assert Counter(round(written - made, 6) for made, written in found) == {0.0: 1, INTERVAL: 99}


def test_a_request_that_is_cancelled_while_it_waits_delays_no_other() -> None:
    async def work(clock: Callable[[], float]) -> None:
        batching = WriteBatching()
        await batching.wait()
        waiting = [asyncio.create_task(batching.wait()) for _ in range(5)]
        await asyncio.sleep(INTERVAL / 2)
        waiting[0].cancel()
        waiting[3].cancel()
        await asyncio.wait(waiting)
        assert [one.cancelled() for one in waiting] == [True, False, False, True, False]
        assert clock() <= INTERVAL * 1.01

    virtual_time.run(work)
