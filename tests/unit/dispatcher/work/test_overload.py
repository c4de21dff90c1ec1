"""With more messages than the rate allows, the rate goes to messages that can still be sent in time."""

import asyncio
import time

import pytest
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import Address
from messaging.status import deadline_of
from tests.memory_stream import MemoryConnection
from tests.unit.depth import DEEP
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time

SHARE, TTL_S, WARM_S, TIME_S = 20, 3.0, 6.0, 16.0


@pytest.fixture(autouse=True)
def a_slow_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step of a request to the stream take some milliseconds, as with three servers."""
    quick = MemoryConnection.step

    async def slow(self: MemoryConnection, name: str) -> None:
        await asyncio.sleep(0.006)
        await quick(self, name)

    monkeypatch.setattr(MemoryConnection, "step", slow)


async def offer(fleet: SmallFleet, rate: float, seconds: float) -> list[Address]:
    """Accept messages evenly, `rate` of them a second."""
    accepting = []
    for _ in range(int(rate * seconds)):
        accepting.append(asyncio.create_task(fleet.accept("a", priority=pb.PRIORITY_NORMAL, ttl_s=TTL_S)))
        await asyncio.sleep(1 / rate)
    return await asyncio.gather(*accepting)


TIMES = [1.5, 3, 10] if DEEP else [1.5]
"""How much of the rate is offered; `make properties` tries all, which takes 20 seconds."""


@pytest.mark.parametrize("times", TIMES)
def test_goodput_stays_within_nine_tenths_of_the_rate(times: float) -> None:
    @in_virtual_time
    async def overloaded() -> None:
        fleet = SmallFleet()
        pod = await fleet.pod("p1")
        pod.pacer.set_share(SHARE)
        began = time.time()
        addresses = await offer(fleet, SHARE * times, TIME_S)
        sent = [
            (codec.unix(event.time), deadline_of(fleet.commands()[one], None))
            for one in addresses
            for event in fleet.events(one)
            if event.state == pb.MESSAGE_STATE_SENT
        ]
        good = [at for at, deadline in sent if at <= deadline and WARM_S <= at - began < TIME_S]
        assert len(good) >= 0.9 * SHARE * (TIME_S - WARM_S)
        assert not [late for late in sent if late[0] > late[1]]
        await fleet.close()

    overloaded()
