"""A message that expires in a queue says what stood in its way."""

import asyncio

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.obstacles import Obstacles, obstacle
from dispatcher.duties.sweeper import end_of
from messaging import codec
from messaging.documents import BreakerState, Lease, Mode, Pause
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard, LimitsBoard
from messaging.stream.buckets import Bucket
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


@pytest.mark.parametrize(
    ("breaker", "pauses", "served", "part"),
    [
        (BreakerState(Mode.OPEN, 1, "5 failures in a row"), {}, True, "p1 is open (5 failures in a row)"),
        (
            BreakerState(Mode.OPEN, 1, "5 failures in a row", since=1_700_000_000.9),
            {},
            True,
            "p1 is open since 2023-11-14 22:13:20 UTC (5 failures in a row)",
        ),
        (BreakerState(Mode.OPEN, 1, since=2.0**39), {}, True, "is open since 9999-12-31 23:59:59 UTC"),
        (BreakerState(Mode.HALF_OPEN, 1), {}, True, "half-open"),
        (BreakerState(Mode.HALF_OPEN, 1, since=1_700_000_000.0), {}, True, "it opened at 2023-11-14 22:13:20 UTC"),
        (BreakerState(), {"p1": Pause(5.0)}, True, "asked for a pause (no reason given)"),
        (
            BreakerState(),
            {"p1": Pause(5.0, 1_700_000_000.0, "throttled with code 429")},
            True,
            "asked for a pause until 2023-11-14 22:13:20 UTC (throttled with code 429)",
        ),
        (BreakerState(), {}, False, "no pod of p1 runs"),
        (BreakerState(), {"p2": Pause(5.0)}, True, ""),
    ],
)
def test_obstacle_is_the_first_that_applies(
    breaker: BreakerState, pauses: dict[str, Pause], part: str, *, served: bool
) -> None:
    said = obstacle("p1", {"p1": breaker}, pauses, served)
    assert part in said
    assert bool(said) == bool(part)


def test_expired_message_says_how_far_it_came() -> None:
    command = wire.Command(provider="p1", deadline=codec.timestamp(100.0))
    never = end_of(command, wire.Event(), pb.MESSAGE_STATE_ACCEPTED, 101.0, "no pod of p1 runs")
    assert never is not None
    assert never.detail.endswith("it was never drawn from the queue of p1; no pod of p1 runs")
    tried = wire.Event(state=pb.MESSAGE_STATE_QUEUED, provider="p2", attempt_count=2, reason="TRANSIENT")
    later = end_of(command, tried, pb.MESSAGE_STATE_QUEUED, 101.0)
    assert later is not None
    assert later.detail.endswith("after attempt 2 it waited for p2 (TRANSIENT)")


@in_virtual_time
async def test_sweeper_names_the_open_breaker_of_a_message_that_expired_behind_it() -> None:
    fleet = SmallFleet()
    connection = fleet.caller.connection
    state = BreakerState(Mode.OPEN, 1, "the operator opened it", forced=True)
    await BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET)).set_breaker("p1", state, 0)
    fleet.duties()
    address = await fleet.accept("a", ttl_s=10.0)
    await asyncio.sleep(12)
    assert fleet.story(address) == ["EXPIRED EXPIRED"]
    assert "the breaker of p1 is open (the operator opened it)" in fleet.last(address).detail
    await fleet.close()


@in_virtual_time
async def test_pods_that_have_given_their_lease_back_do_not_count() -> None:
    fleet = SmallFleet()
    obstacles, board = (
        Obstacles(fleet.caller.connection),
        LimitsBoard(Bucket(fleet.caller.connection, topo.LIMITS_BUCKET)),
    )
    assert obstacles.of("p1") == ""
    await board.put_lease("a", Lease("p1", 5), 30)
    await obstacles.read()
    assert obstacles.of("p1") == ""
    await board.put_lease("a", Lease("p1", 0, gone=True), 30)
    await obstacles.read()
    assert obstacles.of("p1") == "no pod of p1 runs"
