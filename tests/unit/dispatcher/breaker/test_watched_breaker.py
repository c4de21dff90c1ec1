"""A closed breaker is read when its process has seen a newer revision; one that is not closed, every second."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dispatcher.breaker.breaker import Breaker, BreakerLimits
from dispatcher.breaker.sync import BreakerSync
from dispatcher.rate.pacer import Pacer
from messaging.documents import BreakerState, Mode
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket, Changes
from tests.unit.processes import Process
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


class DeafBoard(BreakerBoard):
    """A board whose hints are all lost."""

    @asynccontextmanager
    async def changes(self, _provider: str | None = None) -> AsyncIterator[Changes]:
        yield Changes()


@in_virtual_time
async def test_newer_revision_is_read_at_once_and_a_breaker_that_is_open_every_second() -> None:
    fleet = SmallFleet()
    process = Process(fleet.stream)
    fleet.processes.append(process)
    bucket = Bucket(process.connection, topo.BREAKERS_BUCKET)
    breaker = Breaker("pod", BreakerLimits(cooldown_s=600.0))
    sync = BreakerSync(DeafBoard(bucket), "p1", breaker, Pacer(1.0, time.monotonic), watched=True)
    process.start(sync.run())
    board = BreakerBoard(Bucket(fleet.caller.connection, topo.BREAKERS_BUCKET))
    await asyncio.sleep(5)
    revision = await board.set_breaker("p1", BreakerState(Mode.OPEN, 1, "why"), 0)
    assert revision is not None
    await asyncio.sleep(5)
    assert str(sync.state.mode) == "closed", "nobody has told it"
    sync.note_newest(revision)
    await asyncio.sleep(0.1)
    assert str(sync.state.mode) == "open"
    assert await board.set_breaker("p1", BreakerState(Mode.CLOSED, 2), revision) is not None
    await asyncio.sleep(1)
    assert str(sync.state.mode) == "closed"
    await fleet.close()
