"""The full rate is sent again at most five seconds after one of our own processes has failed."""

import asyncio
import time

import pytest

from dispatcher.rate.allocator import Timing
from tests.unit.dispatcher.rate.fleet import FakeFleet, Pod
from tests.unit.virtual_time import in_virtual_time

LONGEST_S = 5.0
TIMINGS = {"default": Timing(), "manifests": Timing(lease_s=3.5, renew_s=0.7, window_s=1.005, leader_ttl_s=3.5)}
EVERY = pytest.mark.parametrize("timing", TIMINGS.values(), ids=TIMINGS)


async def busy(timing: Timing) -> tuple[FakeFleet, Pod, Pod]:
    fleet = FakeFleet(time.monotonic, 200, {"p1": 50})
    fleet.timing = timing
    fleet.lead("c1")
    fleet.lead("c2")
    pods = [fleet.add("p1", 50) for _ in range(2)]
    await asyncio.sleep(20)
    assert [pod.pacer.share for pod in pods] == [25, 25]
    return fleet, pods[0], pods[1]


@EVERY
def test_share_of_a_killed_pod_is_used_again(timing: Timing) -> None:
    @in_virtual_time
    async def kill() -> None:
        fleet, first, second = await busy(timing)
        await fleet.kill(first)
        await asyncio.sleep(LONGEST_S)
        assert second.pacer.share == 50
        fleet.check()
        await fleet.close()

    kill()


@EVERY
def test_share_of_a_pod_without_a_connection_is_used_again(timing: Timing) -> None:
    @in_virtual_time
    async def cut() -> None:
        fleet, first, second = await busy(timing)
        first.bucket.cut = True
        await asyncio.sleep(LONGEST_S)
        assert second.pacer.share == 50
        fleet.check()
        await fleet.close()

    cut()


@EVERY
def test_shares_move_again_after_the_leading_coordinator_was_killed(timing: Timing) -> None:
    @in_virtual_time
    async def depose() -> None:
        fleet, first, second = await busy(timing)
        _, leader = fleet.store.read("leader")
        await fleet.depose(leader["name"])
        first.demand = 0
        await asyncio.sleep(LONGEST_S + timing.window_s)  # a share that is lowered stays reserved for one window
        assert second.pacer.share == 48
        fleet.check()
        await fleet.close()

    depose()
