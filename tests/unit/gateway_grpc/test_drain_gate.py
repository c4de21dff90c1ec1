"""Calls that arrive while a server is about to stop."""

import asyncio
import time

import pytest

from gateway_grpc.drain_gate import DrainGate
from messaging.errors import Draining
from tests.unit.virtual_time import in_virtual_time


async def call(gate: DrainGate) -> str:
    with gate:
        if gate.holding:
            await gate.wait_and_refuse()
        return "answered"


async def test_an_open_gate_lets_every_call_through() -> None:
    assert await call(DrainGate()) == "answered"


async def test_a_late_call_is_held_and_then_refused() -> None:
    gate = DrainGate()
    gate.hold()
    held = asyncio.create_task(call(gate))
    await asyncio.sleep(0)
    assert not held.done()
    gate.refuse()
    with pytest.raises(Draining):
        await held
    with pytest.raises(Draining):
        await call(gate)


@in_virtual_time
async def test_it_is_not_quiet_while_calls_arrive_and_that_wait_has_a_time_out() -> None:
    gate = DrainGate()
    gate.hold()
    calls = []

    async def arrive(times: int) -> None:
        for _ in range(times):
            calls.append(asyncio.create_task(call(gate)))
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as group:
        caller = group.create_task(arrive(50))
        await gate.wait_until_quiet(3, 60.0)
        assert caller.done()
    caller = asyncio.create_task(arrive(1_000_000_000))
    began = time.monotonic()
    await gate.wait_until_quiet(3, 5.0)
    assert time.monotonic() - began >= 5.0
    caller.cancel()
    gate.refuse()
    assert all(isinstance(one, Draining) for one in await asyncio.gather(*calls, return_exceptions=True))


async def test_it_is_empty_when_the_last_call_has_ended() -> None:
    gate = DrainGate()
    await gate.wait_until_empty(60.0)
    with gate:
        before = time.monotonic()
        await gate.wait_until_empty(0.05)
        assert time.monotonic() - before >= 0.05
        with gate:
            pass
        waiting = asyncio.create_task(gate.wait_until_empty(60.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    await waiting
