"""What the fleet view gives to routing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

from messaging.documents import Backlog, BreakerState, Mode
from messaging.model import Lane
from messaging.runtime.providers_file import Provider
from messaging.stream import topology as topo
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.fleet import HEARD_S, FleetView
from tests.unit.processes import Process
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time

PROVIDERS = [Provider(name, "simulated", "http://localhost") for name in ("p1", "p2")]


def test_facts_are_those_of_the_latest_breakers_and_backlog() -> None:
    view = FleetView(Mock(), PROVIDERS, room_s=2.0)
    first = view.facts()
    assert view.facts() is first
    view.backlog = {"p1": 3, "p2": 0}
    assert view.facts()["p1"].backlog == 3
    view.breakers = {"p2": BreakerState(Mode.OPEN)}
    assert [one.breaker_open for one in view.facts().values()] == [False, True]
    view.breakers = {name: BreakerState(Mode.HALF_OPEN) for name in ("p1", "p2")}
    assert [one.breaker_open for one in view.facts().values()] == [True, False], "a waiting message is the probe"
    view.backlog = {"p1": 0, "p2": 0}
    assert not view.facts()["p1"].breaker_open


@asynccontextmanager
async def following(fleet: SmallFleet) -> AsyncIterator[tuple[FleetView, LimitsBoard, list[str]]]:
    """A view that runs, the board, and the requests that the view's process makes."""
    asked: list[str] = []
    process = Process(fleet.stream, asked.append)
    view = FleetView(process.connection, PROVIDERS, room_s=2.0)
    process.start(view.run())
    yield view, LimitsBoard(Bucket(fleet.caller.connection, topo.LIMITS_BUCKET)), asked
    await process.kill()
    await fleet.close()


def counts(asked: list[str]) -> int:
    return sum("STREAM.INFO" in step or "CONSUMER.LIST" in step for step in asked)


@in_virtual_time
async def test_what_a_coordinator_has_counted_is_taken_over_and_nothing_is_counted_here() -> None:
    async with following(SmallFleet()) as (view, board, asked):
        counted = Backlog("c", {"p1": {"otp": (2, 1)}, "p3": {"bulk": (4, 0)}}, 9, storage_fill=0.5)
        for _ in range(20):
            await board.put_backlog(counted, 5)
            await asyncio.sleep(0.5)
        assert view.backlog == {"p1": 3, "p2": 0, "p3": 4}
        assert (view.waiting, view.storage_fill, await view.uncounted()) == (7, 0.5, 9)
        assert counts(asked[50:]) == 0


@in_virtual_time
async def test_view_counts_for_itself_while_no_coordinator_does() -> None:
    async with following(fleet := SmallFleet()) as (view, board, asked):
        await asyncio.sleep(1)
        assert counts(asked)
        await board.put_backlog(Backlog("c", {"p1": {"otp": (2, 1)}}), 5)
        await asyncio.sleep(0.6)
        assert view.backlog == {"p1": 3, "p2": 0}
        await fleet.accept("a", provider="p2")
        await asyncio.sleep(HEARD_S + 1)
        assert view.backlog == {"p1": 0, "p2": 1}


@in_virtual_time
async def test_garbage_on_the_board_is_not_believed() -> None:
    async with following(fleet := SmallFleet()) as (view, _, _):
        bucket = Bucket(fleet.caller.connection, topo.LIMITS_BUCKET)
        await fleet.accept("a", provider="p2")
        garbage: list[object] = [{"by": "c", "waiting": {"p1": {"otp": [-1, 0]}}}, [], {"waiting": {}}]
        for document in garbage:
            await bucket.put("backlog", document)
        await asyncio.sleep(1)
        assert view.backlog == {"p1": 0, "p2": 1}


@in_virtual_time
async def test_lane_hears_each_count_and_the_newest_revision_of_its_breaker_or_pause() -> None:
    async with following(fleet := SmallFleet()) as (view, board, _):
        found: dict[object, int] = {}
        async with view.listening("p2", found.__setitem__, lambda revision: found.__setitem__("newest", revision)):
            await asyncio.sleep(1)
            await board.put_backlog(Backlog("c", {"p1": {"otp": (9, 9)}, "p2": {"otp": (2, 1)}}), 5)
            revision = await Bucket(fleet.caller.connection, topo.BREAKERS_BUCKET).put("pause.p2", {"pause_s": 1.0})
            await asyncio.sleep(1)
            assert found == {Lane.OTP: 3, Lane.NORMAL: 0, Lane.BULK: 0, "newest": revision}
        found.clear()
        await board.put_backlog(Backlog("c"), 5)
        await asyncio.sleep(1)
        assert not found
