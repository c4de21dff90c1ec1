"""Connections take turns, work is bounded, and nothing is lost when a waiting task is cancelled."""

import asyncio
from collections import Counter

import pytest

from gateway_grpc.turns import Turns, Workload
from tests.unit.virtual_time import in_virtual_time

MANY, FEW = "a connection with many streams", "another with one"


@in_virtual_time
async def test_connections_take_turns_however_much_one_asks_for() -> None:
    turns, begun = Turns(at_once=1000, each_cycle=lambda: 2), list[str]()

    async def work(connection: str) -> None:
        async with turns.turn(connection):
            begun.append(connection)

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(work(MANY))
        for _ in range(10):
            group.create_task(work(FEW))
    assert len(begun) == 110
    assert begun[:22].count(FEW) == 10, "although all 100 of the other came first"


@in_virtual_time
async def test_the_event_loop_goes_round_between_a_few_pieces_of_work() -> None:
    turns, cycle, begun = Turns(at_once=1000, each_cycle=lambda: 4), 0, Counter[int]()

    async def work() -> None:
        await turns.begin(MANY)
        begun[cycle] += 1
        turns.end()

    tasks = [asyncio.create_task(work()) for _ in range(100)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        cycle += 1
    assert sum(begun.values()) == 100
    assert max(begun.values()) <= 4


@in_virtual_time
async def test_only_so_many_are_in_progress() -> None:
    turns, active, highest = Turns(at_once=3, each_cycle=lambda: 100), 0, 0

    async def work(number: int) -> None:
        nonlocal active, highest
        async with turns.turn(number % 5):
            active += 1
            highest = max(highest, active)
            await asyncio.sleep(0.1)
            active -= 1

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(work(number))
    assert highest == 3
    assert asyncio.get_running_loop().time() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("cycles", range(4))
def test_a_task_that_is_cancelled_while_it_waits_keeps_no_place(cycles: int) -> None:
    async def scenario() -> None:
        turns = Turns(at_once=1, each_cycle=lambda: 100)
        await turns.begin(MANY)
        waiting = [asyncio.create_task(turns.begin(connection)) for connection in (MANY, FEW)]
        await asyncio.sleep(0)
        turns.end()
        for _ in range(cycles):
            await asyncio.sleep(0)
        was_granted = waiting[0].done()
        waiting[0].cancel()
        if was_granted:
            turns.end()
        await asyncio.wait_for(waiting[1], 1)
        turns.end()
        await asyncio.wait_for(turns.begin(MANY), 1)

    asyncio.run(scenario())


@in_virtual_time
async def test_chunks_and_their_bytes_are_limited_for_the_process_and_for_each_connection() -> None:
    load, held = Workload(chunks=8, size_bytes=800), Counter[str]()
    highest = Counter[str]()

    async def work(connection: str, size_bytes: int) -> None:
        async with load.hold(connection, size_bytes):
            held[connection] += 1
            held["bytes"] += size_bytes
            highest[connection] = max(highest[connection], held[connection])
            highest["bytes"] = max(highest["bytes"], held["bytes"])
            await asyncio.sleep(0.1)
            held[connection] -= 1
            held["bytes"] -= size_bytes

    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(work(f"c{number % 6}", 90 if number % 2 else 10))
    assert {highest[f"c{number}"] for number in range(6)} == {2}, "a quarter of 8 chunks, or of 800 bytes"
    assert highest["bytes"] <= 800


@in_virtual_time
async def test_a_chunk_larger_than_the_limit_goes_alone() -> None:
    load = Workload(chunks=8, size_bytes=800)
    async with asyncio.timeout(1), load.hold(MANY, 10_000):
        other = asyncio.create_task(load.hold(MANY, 10_000).__aenter__())
        await asyncio.sleep(0.1)
        assert not other.done()
    await asyncio.wait_for(other, 1)


@in_virtual_time
async def test_no_more_is_read_from_a_connection_whose_chunks_wait_and_others_go_on() -> None:
    load = Workload(chunks=4, size_bytes=1000)
    first = load.hold(MANY, 1)
    await first.__aenter__()
    await asyncio.wait_for(load.room(MANY), 1)
    waiting = asyncio.create_task(load.hold(MANY, 1).__aenter__())
    await asyncio.sleep(0)
    reading = asyncio.create_task(load.room(MANY))
    await asyncio.wait_for(load.room(FEW), 1)
    await asyncio.sleep(0.1)
    assert not reading.done()
    await first.__aexit__(None, None, None)
    await asyncio.wait_for(asyncio.gather(waiting, reading), 1)


@in_virtual_time
async def test_a_chunk_that_was_cancelled_while_it_waited_takes_no_room() -> None:
    load = Workload(chunks=4, size_bytes=1000)
    async with load.hold(MANY, 1):
        gone = asyncio.create_task(load.hold(MANY, 1).__aenter__())
        next_one = asyncio.create_task(load.hold(MANY, 1).__aenter__())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
    await asyncio.wait_for(next_one, 1)
