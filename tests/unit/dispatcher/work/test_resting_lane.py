"""A lane without messages asks seldom, takes the first message at once, and notices a request that was forgotten."""

import asyncio
from unittest.mock import AsyncMock, Mock

from dispatcher.work.intake import LAST_FETCH_S, Intake
from messaging.model import Lane
from messaging.stream.interface import Delivery
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


class ForgetfulConsumer:
    """A consumer whose requests the server may forget; `fetches` lists the length of each."""

    def __init__(self) -> None:
        self.fetches: list[float] = []
        self.waiting: list[Delivery] = []
        self.forgets = False
        self._moved = asyncio.Event()
        self.close = AsyncMock()

    def arrive(self) -> None:
        self.waiting.append(Mock(waiting=0))
        if not self.forgets:
            self._moved.set()

    async def fetch(self, _batch: int, wait_s: float = 1.0) -> list[Delivery]:
        self.fetches.append(wait_s)
        self._moved.clear()
        if not self.waiting:
            try:
                async with asyncio.timeout(wait_s):
                    await self._moved.wait()
            except TimeoutError:
                return []
        taken, self.waiting = self.waiting, []
        return taken

    def interrupt(self) -> None:
        self._moved.set()

    async def finish(self) -> None:
        self._moved.set()


async def idle(consumer: ForgetfulConsumer) -> tuple[Intake, "asyncio.Task[None]"]:
    intake = Intake({Lane.OTP: consumer})
    running = asyncio.create_task(intake.run())
    await asyncio.sleep(60)
    return intake, running


@in_virtual_time
async def test_lane_without_messages_asks_for_them_twice_a_minute_and_takes_one_at_once() -> None:
    consumer = ForgetfulConsumer()
    intake, running = await idle(consumer)
    consumer.fetches.clear()
    await asyncio.sleep(120)
    assert len(consumer.fetches) <= 5
    consumer.arrive()
    async with asyncio.timeout(0.001):
        await intake.next()
    await asyncio.sleep(0.5)
    assert consumer.fetches[-1] == 1.0, "a lane that has had a message asks often again"
    intake.stop()
    await running


@in_virtual_time
async def test_request_that_the_server_forgot_is_made_again_when_the_fleet_counts_messages() -> None:
    consumer = ForgetfulConsumer()
    intake, running = await idle(consumer)
    consumer.forgets = True
    consumer.arrive()
    drawing = asyncio.create_task(intake.next())
    await asyncio.sleep(1)
    assert not drawing.done()
    intake.note_count(Lane.OTP, 0)
    await asyncio.sleep(0)
    assert not drawing.done()
    intake.note_count(Lane.OTP, 1)
    async with asyncio.timeout(0.001):
        await drawing
    intake.stop()
    await running


@in_virtual_time
async def test_resting_lane_stops_at_once() -> None:
    intake, running = await idle(ForgetfulConsumer())
    intake.stop()
    async with asyncio.timeout(0.001):
        await running


@in_virtual_time
async def test_message_that_comes_while_a_resting_lane_stops_is_given_back() -> None:
    fleet = SmallFleet()
    pod = await fleet.pod("p1")
    await asyncio.sleep(30)
    stopping = asyncio.create_task(pod.stop())
    address = await fleet.accept("a")
    await stopping
    other = await fleet.pod("p1")
    await asyncio.sleep(LAST_FETCH_S)
    assert fleet.story(address)[-1] == "SENT"
    assert fleet.took(address) == 1
    await other.stop()
    await fleet.close()
