"""Two seconds after its deadline a message is final, whatever waits before it."""

import asyncio

from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import FINAL_STATES, Address
from messaging.status import deadline_of
from tests.unit.depth import DEEP
from tests.unit.fake_provider import Reply
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time

LATEST_S = 2.0
WAITING = 1000 if DEEP else 100


def late_s(fleet: SmallFleet, address: Address) -> float:
    """How long after its deadline a message became final."""
    (first, *_) = [one for one in fleet.events(address) if one.state in FINAL_STATES]
    return codec.unix(first.time) - deadline_of(fleet.commands()[address], None)


@in_virtual_time
async def test_held_message_is_final_in_time_although_thousands_wait() -> None:
    fleet = SmallFleet({"p1": {"unclear": [Reply.HANGS] * 3}})
    fleet.duties()
    pod = await fleet.pod("p1")
    held = [
        await fleet.accept("unclear", priority=pb.PRIORITY_NORMAL, ttl_s=20.0 + number, providers=["p1"])
        for number in range(3)
    ]
    await asyncio.sleep(5)
    assert [fleet.last(one).held for one in held] == [True] * 3
    pod.pacer.set_share(1)
    for _ in range(WAITING):
        await fleet.accept("waits", priority=pb.PRIORITY_NORMAL, ttl_s=3600.0, providers=["p1"])
    await asyncio.sleep(60)
    for one in held:
        assert fleet.story(one)[-1] == "UNKNOWN UNKNOWN"
        assert late_s(fleet, one) <= LATEST_S
    await fleet.close()


@in_virtual_time
async def test_waiting_messages_are_final_in_time_wherever_they_wait() -> None:
    fleet = SmallFleet({"p1": {"fails": [Reply.FAILS] * 9}})
    fleet.duties()
    pod = await fleet.pod("p1")
    later = await fleet.accept("fails", ttl_s=20.0, providers=["p1"])
    scheduled = await fleet.accept("scheduled", ttl_s=25.0, due_in_s=15.0, providers=["p1"])
    elsewhere = await fleet.accept("no pod", provider="p2", ttl_s=20.0, providers=["p2"])
    await asyncio.sleep(1)
    pod.pacer.set_share(1)
    queued = [
        await fleet.accept("waits", priority=pb.PRIORITY_BULK, ttl_s=20.0, providers=["p1"]) for _ in range(WAITING)
    ]
    await asyncio.sleep(60)
    for one in (later, scheduled, elsewhere, *queued):
        state = fleet.last(one).state
        assert state == pb.MESSAGE_STATE_SENT or late_s(fleet, one) <= LATEST_S
    assert fleet.story(elsewhere) == ["EXPIRED EXPIRED"]
    await fleet.close()


@in_virtual_time
async def test_yes_of_the_look_up_at_the_deadline_is_not_lost() -> None:
    fleet = SmallFleet({"p1": {"unclear": [Reply.TAKES_UNHEARD]}}, can_look_up=True)
    fleet.duties()
    pod = await fleet.pod("p1")
    slow, client = asyncio.Event(), pod.process

    async def answer_late(step: str) -> None:
        if step == "before look-up":
            await slow.wait()

    real_step = client.step
    client.step = lambda name: _both(answer_late(name), real_step(name))  # type: ignore[method-assign]
    address = await fleet.accept("unclear", priority=pb.PRIORITY_NORMAL, ttl_s=20.0, providers=["p1"])
    await asyncio.sleep(25)
    assert fleet.story(address)[-1] == "UNKNOWN UNKNOWN"
    slow.set()
    await asyncio.sleep(5)
    assert fleet.story(address)[-1] == "SENT"

    await fleet.close()


async def _both(first: object, then: object) -> None:
    await first  # type: ignore[misc]
    await then  # type: ignore[misc]
