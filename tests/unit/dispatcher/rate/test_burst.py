"""Bursts leave at once, as far as the share goes; what is spread does not wait longer for them."""

import asyncio

from tests.unit.dispatcher.rate.test_pacer import Clock, highest, ready_pacer, send
from tests.unit.virtual_time import run


def test_burst_leaves_at_once_as_far_as_the_share_goes_and_no_window_has_more() -> None:
    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, 30)
        return [await send(pacer, clock, at_once=True) for _ in range(70)]

    times = run(work)
    assert times[29] - times[0] < 0.001
    assert highest(times, 1.0) == 30


def test_messages_that_are_spread_do_not_wait_longer_because_of_a_burst_before_them() -> None:
    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, 50)
        for _ in range(20):
            await send(pacer, clock, at_once=True)
        return [await send(pacer, clock) for _ in range(5)]

    assert run(work)[-1] < 0.1


def test_message_that_waits_for_its_turn_goes_earlier_when_the_share_is_raised() -> None:
    async def work(clock: Clock) -> float:
        pacer = ready_pacer(clock, 2)
        await send(pacer, clock)
        waiting = asyncio.create_task(send(pacer, clock))
        await asyncio.sleep(0.05)
        pacer.set_share(50)
        return await waiting

    assert run(work) < 0.06
