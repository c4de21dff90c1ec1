"""One coordinator counts what waits, for every process; another one goes on when it is gone."""

import asyncio

from dispatcher.duties.backlog_report import BacklogReport
from messaging.documents import Backlog
from messaging.stream import topology as topo
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from tests.unit.processes import Process
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


def board_of(process: Process) -> LimitsBoard:
    return LimitsBoard(Bucket(process.connection, topo.LIMITS_BUCKET))


def start(fleet: SmallFleet, name: str) -> Process:
    process = Process(fleet.stream)
    fleet.processes.append(process)
    process.start(BacklogReport(process.connection, board_of(process), name).run())
    return process


@in_virtual_time
async def test_one_of_two_coordinators_counts_and_the_other_takes_over_within_two_seconds() -> None:
    fleet = SmallFleet()
    heard: list[Backlog] = []
    async with board_of(fleet.caller).on_backlog(heard.append):
        first = start(fleet, "c1")
        await asyncio.sleep(0.2)
        start(fleet, "c2")
        await fleet.accept("a", provider="p2")
        await asyncio.sleep(10)
        assert {one.by for one in heard} == {"c1"}
        assert len(heard) >= 19
        assert heard[-1].waiting == {"p1": {}, "p2": {"otp": (1, 0)}}
        await first.kill()
        heard.clear()
        await asyncio.sleep(2)
        assert {one.by for one in heard} == {"c2"}
    await fleet.close()
