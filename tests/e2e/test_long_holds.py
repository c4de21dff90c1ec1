"""A pod holds messages of every lane for several times the ack wait, and none is redelivered."""

import asyncio
import pathlib
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from rig import BULK, NORMAL, OTP, Rig, running

from messaging.model import Lane
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection

ACK_WAIT_S = 2.0
LONG_S = 3 * ACK_WAIT_S
EACH = 10
AT_ONCE = 12


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    async with running(
        open_folder / "long-holds",
        providers=("p1",),
        tables={"p1": ["timeout_s = 20", f"max_in_flight = {AT_ONCE}"]},
        environment={"SMSGW_ACK_WAIT_S": f"{ACK_WAIT_S:g}", "SMSGW_BREAKER_COOLDOWN_S": f"{LONG_S:g}"},
        projectors=0,
    ) as rig:
        yield rig


async def deliveries(rig: Rig) -> tuple[int, int]:
    """The number of entries the queue has had, and of deliveries to pods."""
    async with open_connection(rig.system.environment["SMSGW_NATS_URL"], "test") as connection:
        stream = await connection.api(f"STREAM.INFO.{topo.SEND}")
        given = 0
        for lane in Lane:
            info = await connection.api(f"CONSUMER.INFO.{topo.SEND}.{topo.dispatch_consumer('p1', lane)}")
            given += info["delivered"]["consumer_seq"]
    assert stream["state"]["messages"] == 0
    return stream["state"]["last_seq"], given


async def test_messages_in_calls_and_those_drawn_ahead_are_held(rig: Rig) -> None:
    """Twelve are in their calls; the others wait for a slot during one or two more calls."""
    await rig.behave("p1", latency_s=LONG_S)
    messages = [rig.load(EACH, priority=priority) for priority in (BULK, NORMAL, OTP)]
    began = time.monotonic()
    ids = {one.accepted.message_id for load in messages for one in await rig.batch(load)}
    await rig.all_settle(ids, 60)
    assert time.monotonic() - began > 2.9 * LONG_S
    assert await deliveries(rig) == (3 * EACH, 3 * EACH)
    await rig.behave("p1")


@pytest.mark.parametrize(("fault", "answers"), [("unavailable", 5), ("throttle", 1)])
async def test_messages_behind_an_open_breaker_and_at_a_paused_pacer_are_held(
    rig: Rig, fault: str, answers: int
) -> None:
    before, _ = await deliveries(rig)
    await rig.behave("p1", force=fault, retry_after_s=LONG_S if fault == "throttle" else None)
    first = {one.accepted.message_id for one in await rig.batch(rig.load(5, priority=OTP))}
    end = time.monotonic() + 10
    while len(await rig.received(first)) < answers:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    await rig.behave("p1")
    began = time.monotonic()
    loads = [rig.load(4, priority=priority) for priority in (BULK, NORMAL, OTP)]
    ids = {one.accepted.message_id for load in loads for one in await rig.batch(load)}
    await rig.all_settle(ids | first, 40)
    assert time.monotonic() - began > 2 * ACK_WAIT_S
    entries, given = await deliveries(rig)
    assert entries == given
    assert entries >= before + 17
