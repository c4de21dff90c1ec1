"""What comes in while a server is about to stop."""

import asyncio
import time

import pytest

from gateway_grpc.drain_gate import DrainGate
from messaging.errors import Draining


async def come(gate: DrainGate) -> str:
    with gate:
        if gate.holds:
            await gate.refused()
        return "answered"


async def test_before_the_stop_every_call_comes_in() -> None:
    assert await come(DrainGate()) == "answered"


async def test_a_call_in_the_moment_of_the_stop_is_held_and_then_refused() -> None:
    gate = DrainGate()
    gate.hold()
    call = asyncio.create_task(come(gate))
    await asyncio.sleep(0)
    assert not call.done()
    gate.refuse()
    with pytest.raises(Draining):
        await call
    with pytest.raises(Draining):
        await come(gate)


async def test_it_is_not_quiet_while_calls_come_but_that_is_not_waited_for_for_ever() -> None:
    gate = DrainGate()
    gate.hold()
    calls = []

    async def come_again(times: int) -> None:
        for _ in range(times):
            calls.append(asyncio.create_task(come(gate)))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        caller = group.create_task(come_again(50))
        await gate.quiet(3, 60.0)
        assert caller.done()
    caller = asyncio.create_task(come_again(1_000_000_000))
    began = time.monotonic()
    await gate.quiet(3, 0.05)
    assert time.monotonic() - began >= 0.05
    caller.cancel()
    gate.refuse()
    assert all(isinstance(one, Draining) for one in await asyncio.gather(*calls, return_exceptions=True))


async def test_it_is_empty_when_the_last_call_has_ended() -> None:
    gate = DrainGate()
    await gate.empty(60.0)
    with gate:
        before = time.monotonic()
        await gate.empty(0.05)
        assert time.monotonic() - before >= 0.05
        with gate:
            pass
        waiting = asyncio.create_task(gate.empty(60.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    await waiting
