"""The fleet uses the rate that was bought and never more, measured by the kernel's clock at the providers' sockets."""

import asyncio
import pathlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from rig import BULK, NORMAL, OTP, Rig, running

from dispatcher.work.intake import PREFETCH
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection
from tests.machine import Machine

SECOND = 1_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fleet(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    async with running(open_folder / "fleet", dispatchers_each=2) as rig:
        yield rig


def between(requests: list[dict[str, Any]], start_ns: int, end_ns: int) -> list[dict[str, Any]]:
    return [one for one in requests if start_ns <= one["at_ns"] < end_ns]


async def load(rig: Rig, count: int, **fields: Any) -> set[str]:
    results = await rig.batch(rig.load(count, **fields))
    return {one.accepted.message_id for one in results if one.HasField("accepted")}


async def test_the_fleet_uses_its_whole_rate_and_never_more(fleet: Rig, machine: Machine) -> None:
    ids = await load(fleet, 4400, priority=BULK)
    assert len(ids) == 4400
    await fleet.until_received(4400, ids, 60)
    seen = await fleet.received(ids)
    assert len(seen) == 4400
    fleet.assert_within_limits(seen)
    # From the time when the shares are stable to the earliest end of a provider's backlog.
    start = seen[0]["at_ns"] + 5 * SECOND
    machine.reaches(len(between(seen, start, start + 12 * SECOND)) / 12, at_least=0.99 * 200)


async def test_unused_share_goes_to_pods_with_work_within_two_seconds(fleet: Rig, machine: Machine) -> None:
    everyone = ["p1", "p2", "p3", "p4", "p5"]
    loads = [load(fleet, 440, providers=[name], priority=BULK) for name in everyone[:4]]
    ids = set().union(*await asyncio.gather(*loads, load(fleet, 80, providers=["p5"], priority=BULK)))
    await fleet.until_received(len(ids), ids, 60)
    seen = await fleet.received(ids)
    fleet.assert_within_limits(seen)
    idle_from = max(one["at_ns"] for one in seen if one["provider"] == "p5")
    after = between(seen, idle_from + 2 * SECOND, idle_from + 5 * SECOND)
    machine.reaches(len(after) / 3, at_least=0.97 * 200)


async def test_otp_overtakes_a_bulk_backlog(fleet: Rig, machine: Machine) -> None:
    bulk = await load(fleet, 350, providers=["p1"], priority=BULK)
    await fleet.until_received(20, bulk, 40)
    before = time.time_ns()
    urgent = await fleet.send(providers=["p1"], priority=OTP)
    await fleet.until(urgent.message_id, "SENT")
    [seen] = await fleet.received([urgent.message_id])
    machine.reaches((seen["at_ns"] - before) / SECOND, below=1.0)
    behind = [one for one in await fleet.until_received(350, bulk, 60) if one["at_ns"] > seen["at_ns"]]
    assert len(behind) > 100


async def test_slow_provider_still_gets_its_rate(fleet: Rig, machine: Machine) -> None:
    await fleet.behave("p2", latency_s=2.0)
    ids = await load(fleet, 500, providers=["p2"], priority=NORMAL)
    await fleet.until_received(500, ids, 60)
    await fleet.behave("p2")
    seen = await fleet.received(ids)
    assert len(seen) == 500
    fleet.assert_within_limits(seen)
    start = seen[0]["at_ns"] + 4 * SECOND
    machine.reaches(len(between(seen, start, start + 5 * SECOND)) / 5, at_least=0.97 * 50)


async def test_limit_holds_when_coordinator_and_dispatcher_crash(fleet: Rig) -> None:
    ids = await load(fleet, 2400, priority=BULK)
    system = fleet.system
    for victim in ("coordinator-1", "dispatcher-p3-1", "coordinator-1", "dispatcher-p1-2"):
        await asyncio.sleep(1.5)
        system.signal(victim, signal.SIGKILL)
        await asyncio.to_thread(system.processes[victim].wait, 5)
        await asyncio.sleep(0.5)
        system.restart(victim)
    await fleet.until_received(2370, ids, 90)
    seen = await fleet.received(ids)
    fleet.assert_within_limits(seen)
    assert len(seen) == len({one["reference"] for one in seen})


async def test_fleet_keeps_its_shares_without_a_coordinator(fleet: Rig) -> None:
    system = fleet.system
    system.signal("coordinator-1", signal.SIGKILL)
    await asyncio.to_thread(system.processes["coordinator-1"].wait, 5)
    try:
        ids = await load(fleet, 60, priority=NORMAL)
        seen = await fleet.until_received(60, ids, 60)
        fleet.assert_within_limits(seen)
    finally:
        system.restart("coordinator-1")


async def test_paused_dispatcher_resumes_without_exceeding_a_limit(fleet: Rig) -> None:
    ids = await load(fleet, 2000, priority=BULK)
    await fleet.until_received(200, ids, 40)
    for victim in ("dispatcher-p4-1", "dispatcher-p5-2"):
        fleet.system.signal(victim, signal.SIGSTOP)
    await asyncio.sleep(6)
    for victim in ("dispatcher-p4-1", "dispatcher-p5-2"):
        fleet.system.signal(victim, signal.SIGCONT)
    await fleet.until_received(1950, ids, 60)
    fleet.assert_within_limits(await fleet.received(ids))


async def test_stopping_dispatcher_drains_and_gives_its_messages_back_at_once(fleet: Rig, machine: Machine) -> None:
    await fleet.behave("p5", latency_s=1.0)
    ids = await load(fleet, 400, providers=["p5"], priority=NORMAL)
    await fleet.until_received(60, ids, 40)
    victim = fleet.system.processes["dispatcher-p5-1"]
    began = time.monotonic()
    victim.send(signal.SIGTERM)
    assert await asyncio.to_thread(victim.wait, 20)
    took_s = time.monotonic() - began
    assert victim.exit_code == 0
    left = time.time_ns()
    seen = await fleet.until_received(400, ids, 60)
    await fleet.behave("p5")
    fleet.system.restart("dispatcher-p5-1")
    fleet.assert_within_limits(seen)
    assert len(seen) == 400
    after = between(seen, left + 2 * SECOND, left + 4 * SECOND)
    machine.reaches(took_s, below=6)  # the drain budget, and what it takes to end a process
    machine.reaches(len(after), at_least=0.9 * 2 * 50)


async def test_dispatcher_draws_no_more_than_it_can_send_soon(fleet: Rig) -> None:
    ids = await load(fleet, 300, providers=["p1"], priority=BULK)
    async with open_connection(fleet.system.environment["SMSGW_NATS_URL"], "test") as connection:
        await fleet.until_received(60, ids, 40)
        drawn = []
        for _ in range(10):
            info = await connection.api(f"CONSUMER.INFO.{topo.SEND}.{topo.dispatch_consumer('p1', 'bulk')}")
            drawn.append(info["num_ack_pending"])
            await asyncio.sleep(0.1)
    # Two pods, each with a few messages drawn ahead and a few in flight, of a backlog of hundreds.
    assert max(drawn) <= 2 * (PREFETCH + 12)
    assert len(await fleet.received(ids)) < 300, "the backlog had not ended"
    await fleet.until_received(300, ids, 60)
