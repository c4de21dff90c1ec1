"""Several lanes in one process: limits, crashes, stops and rest are the same as with a process for each."""

import asyncio
import pathlib
import signal
import time
from collections.abc import AsyncIterator

import pytest_asyncio
from rig import BULK, OTP, Rig, eventually, running

from messaging.stream import topology as topo
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.connection import open_connection
from tests.machine import Machine

SECOND = 1_000_000_000
PODS = ("dispatcher-all-1", "dispatcher-all-2")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def together(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    async with running(open_folder / "together", dispatchers_each=2, together_from=1) as rig:
        yield rig


async def load(rig: Rig, count: int, **fields: object) -> set[str]:
    results = await rig.batch(rig.load(count, **fields))
    return {one.accepted.message_id for one in results if one.HasField("accepted")}


async def all_rest(rig: Rig) -> None:
    """Wait until every lane of both processes rests."""
    async with open_connection(rig.system.environment["SMSGW_NATS_URL"], "rig") as connection:
        board = LimitsBoard(Bucket(connection, topo.LIMITS_BUCKET))

        async def rests() -> bool:
            leases = [lease for _, lease in (await board.leases()).values() if not lease.gone]
            return len(leases) == 2 * len(rig.system.simulators) and all(lease.rests_s for lease in leases)

        await eventually(rests, what="every lane rests")


async def test_lanes_of_two_processes_use_the_whole_rate_and_never_more(together: Rig, machine: Machine) -> None:
    ids = await load(together, 2600, priority=BULK)
    seen = await together.until_received(2600, ids, 60)
    assert len(seen) == 2600
    together.assert_within_limits(seen)
    start = seen[0]["at_ns"] + 4 * SECOND
    machine.reaches(sum(start <= one["at_ns"] < start + 5 * SECOND for one in seen) / 5, at_least=0.98 * 200)


async def test_message_wakes_a_lane_that_rests_and_a_burst_stays_within_the_limits(
    together: Rig, machine: Machine
) -> None:
    await all_rest(together)
    before = time.time_ns()
    first = await together.send(providers=["p1"], priority=OTP)
    await together.until(first.message_id, "SENT")
    [seen] = await together.received([first.message_id])
    machine.reaches((seen["at_ns"] - before) / SECOND, below=0.2)
    await all_rest(together)
    ids = await load(together, 400, priority=OTP)
    together.assert_within_limits(await together.until_received(400, ids, 40))


async def test_nothing_is_lost_when_processes_of_many_lanes_are_killed_and_stopped(together: Rig) -> None:
    ids = await load(together, 1500, priority=OTP)
    await together.until_received(100, ids, 40)
    together.system.signal(PODS[0], signal.SIGKILL)
    await asyncio.sleep(1)
    together.system.restart(PODS[0])
    await asyncio.sleep(2)
    together.system.signal(PODS[1], signal.SIGTERM)
    assert await asyncio.to_thread(together.system.processes[PODS[1]].wait, 15)
    assert together.system.processes[PODS[1]].exit_code == 0
    together.system.restart(PODS[1])
    await together.all_settle(ids, 90)
