"""What `smsctl lanes` shows of rates: what was sent in a second, never more, and nothing of a pod that is silent."""

import asyncio
import time

from messaging.documents import Grant, Lease, Table
from messaging.runtime.providers_file import Provider
from messaging.stream import topology as topo
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from ops.fleet import FleetWatch
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time

PROVIDER = Provider("p1", "simulated", "http://127.0.0.1:1")


async def reporting(lanes: dict[str, Lease]) -> tuple[FleetWatch, LimitsBoard]:
    """A watch on a fleet in which these pods have a share and report these leases."""
    connection = SmallFleet({"p1": {}}).caller.connection
    board = LimitsBoard(Bucket(connection, topo.LIMITS_BUCKET))
    await board.set_table(Table(1, {pod: Grant("p1", 25) for pod in lanes}), 0)
    for pod, lease in lanes.items():
        await board.put_lease(pod, lease, 30)
    return FleetWatch(connection, [PROVIDER], 200), board


async def rate(watch: FleetWatch) -> float | None:
    [lane] = (await watch.snapshot()).lanes
    return lane.rate


@in_virtual_time
async def test_rate_is_what_pods_sent_in_a_whole_second_whenever_they_are_looked_at() -> None:
    watch, board = await reporting({"a": Lease("p1", 9, sent=100, lately=25), "b": Lease("p1", 9, sent=7, lately=25)})
    assert await rate(watch) == 50, "the first picture has a rate as well"
    for pause_s in (0.1, 0.7, 1.4):
        await asyncio.sleep(pause_s)  # virtual: two renewals may fall into one look, or none
        await board.put_lease("a", Lease("p1", 9, sent=140, lately=25), 30)
        await board.put_lease("b", Lease("p1", 9, sent=47, lately=25), 30)
        assert await rate(watch) == 50


@in_virtual_time
async def test_pod_that_no_longer_reports_sends_nothing() -> None:
    watch, _ = await reporting({"a": Lease("p1", 9, lately=25)})
    assert await rate(watch) == 25
    began = time.monotonic()
    while await rate(watch):
        await asyncio.sleep(0.5)
    assert 2 < time.monotonic() - began < 5


@in_virtual_time
async def test_pod_of_an_older_version_is_measured_between_two_looks() -> None:
    watch, board = await reporting({"a": Lease("p1", 9, sent=100)})
    assert await rate(watch) is None
    await asyncio.sleep(2)
    await board.put_lease("a", Lease("p1", 9, sent=150), 30)
    assert await rate(watch) == 25
