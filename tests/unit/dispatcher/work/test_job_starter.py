"""What a job meets between its turn and its attempt."""

import asyncio

from messaging.documents import BreakerState, Mode
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


@in_virtual_time
async def test_breaker_that_opens_while_a_job_waits_for_its_permit_keeps_it_from_being_sent() -> None:
    fleet = SmallFleet()
    pod = await fleet.pod("p1")
    await fleet.pod("p2")
    pod.pacer.set_share(0)
    address = await fleet.accept("a")
    await asyncio.sleep(1)
    board = BreakerBoard(Bucket(fleet.caller.connection, topo.BREAKERS_BUCKET))
    await board.set_breaker("p1", BreakerState(Mode.OPEN, 1, "test", forced=True), 0)
    await asyncio.sleep(1)
    pod.pacer.set_share(1)
    await fleet.until_idle()
    assert fleet.story(address) == ["QUEUED BREAKER_OPEN", "SENDING", "SENT"]
    assert fleet.providers["p1"].calls == []
    await fleet.close()
