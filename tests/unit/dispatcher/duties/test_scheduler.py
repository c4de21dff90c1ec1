"""The scheduler on the in-memory stream: a message that is to be sent later is scheduled once and fires once."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.scheduler import Scheduler
from messaging.errors import StreamDown
from messaging.model import Address
from messaging.stream import topology as topo
from messaging.stream.publisher import Publisher
from tests.memory_stream import Crash
from tests.unit.processes import Process
from tests.unit.small_fleet import ACK_WAIT_S, SmallFleet
from tests.unit.virtual_time import in_virtual_time, run_whole

DUE_S = 30.0


@asynccontextmanager
async def scheduling(fleet: SmallFleet, plan: Callable[[str], None] = lambda _: None) -> AsyncIterator[Process]:
    process = Process(fleet.stream, plan)
    process.start(Scheduler(process.connection, ACK_WAIT_S).run())
    yield process
    await process.kill()


def scheduled(fleet: SmallFleet, address: Address) -> bool:
    return fleet.stream.log(topo.LATER_STREAM).last(topo.later_subject(address)) is not None


def unscheduled(fleet: SmallFleet) -> int:
    """How many accepted messages wait for the scheduler."""
    info = fleet.stream.queue(topo.ACCEPT, topo.SCHEDULE_CONSUMER).info()
    return int(info["num_pending"]) + int(info["num_ack_pending"])


def queued(fleet: SmallFleet) -> list[tuple[float, str]]:
    return [(one.time, one.subject) for one in fleet.stream.log(topo.SEND).messages.values()]


async def cancel(fleet: SmallFleet, address: Address) -> None:
    event = wire.Event(message_id=address.message_id, client="default", state=pb.MESSAGE_STATE_CANCELED)
    assert await fleet.publisher.append_event(address, event, 0) is not None


@in_virtual_time
async def test_scheduled_message_is_queued_when_it_is_due() -> None:
    fleet = SmallFleet()
    async with scheduling(fleet):
        address = await fleet.accept("a", due_in_s=DUE_S, priority=pb.PRIORITY_BULK)
        due = time.time() + DUE_S
        await asyncio.sleep(1)
        assert scheduled(fleet, address)
        assert not queued(fleet)
        assert not unscheduled(fleet)
        await asyncio.sleep(DUE_S)
    [(at, subject)] = queued(fleet)
    assert due - 0.01 <= at <= due + 0.01
    assert subject == topo.send_subject("p1", "bulk", address)
    assert not scheduled(fleet, address)


@pytest.mark.parametrize("step", ["publish sms.later", "last SMS_EVENT", "ack SMS_ACCEPT"])
@pytest.mark.parametrize("moment", ["before", "after"])
@in_virtual_time
async def test_next_scheduler_finishes_what_a_crashed_one_began(moment: str, step: str) -> None:
    fleet = SmallFleet()

    def crash(taken: str) -> None:
        if taken == f"{moment} {step}":
            raise Crash

    address = await fleet.accept("a", due_in_s=DUE_S)
    async with scheduling(fleet, crash) as first:
        await first.crashed.wait()
    async with scheduling(fleet):
        await asyncio.sleep(2 * ACK_WAIT_S)
        assert scheduled(fleet, address)
        assert not unscheduled(fleet)
        await asyncio.sleep(DUE_S)
    assert len(queued(fleet)) == 1


@in_virtual_time
async def test_message_canceled_before_it_is_scheduled_is_not_scheduled() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", due_in_s=DUE_S)
    await cancel(fleet, address)
    async with scheduling(fleet):
        await asyncio.sleep(1)
    assert not scheduled(fleet, address)
    assert not unscheduled(fleet)


@in_virtual_time
async def test_message_canceled_while_it_is_scheduled_is_unscheduled() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", due_in_s=DUE_S)
    canceling: list[asyncio.Task[None]] = []

    def meanwhile(step: str) -> None:
        if step == "before publish sms.later":
            canceling.append(asyncio.create_task(cancel(fleet, address)))

    async with scheduling(fleet, meanwhile):
        await asyncio.sleep(1)
    assert canceling
    assert not scheduled(fleet, address)
    assert not unscheduled(fleet)


@in_virtual_time
async def test_acceptance_is_redelivered_after_the_stream_was_unavailable() -> None:
    fleet = SmallFleet()
    failures = iter([True, True])

    def fail_twice(step: str) -> None:
        if step == "before last SMS_EVENT" and next(failures, False):
            raise StreamDown(step)

    address = await fleet.accept("a", due_in_s=DUE_S)
    async with scheduling(fleet, fail_twice):
        await asyncio.sleep(0.5)
        assert unscheduled(fleet) == 1
        await asyncio.sleep(3)
    assert scheduled(fleet, address)
    assert not unscheduled(fleet)


@in_virtual_time
async def test_acceptance_that_cannot_be_scheduled_for_long_is_not_redelivered() -> None:
    fleet = SmallFleet()
    await fleet.accept("a", due_in_s=DUE_S)
    async with scheduling(fleet, lambda step: _fail(step, "publish sms.later")):
        await asyncio.sleep(4 * ACK_WAIT_S)
        info = fleet.stream.queue(topo.ACCEPT, topo.SCHEDULE_CONSUMER).info()
        assert info["delivered"]["consumer_seq"] == 1


def _fail(step: str, where: str) -> None:
    if step == f"before {where}":
        raise StreamDown(step)


@in_virtual_time
async def test_unreadable_record_does_not_block_the_others() -> None:
    fleet = SmallFleet()
    await fleet.caller.connection.publish("sms.accept.p1.later.no.address", b"x")
    broken = await fleet.accept("gone", due_in_s=DUE_S)
    await fleet.caller.connection.publish(topo.accept_subject("p1", "later", broken), b"\xff")
    address = await fleet.accept("a", due_in_s=DUE_S)
    async with scheduling(fleet):
        await asyncio.sleep(1)
    assert scheduled(fleet, address)
    assert not unscheduled(fleet)


@pytest.mark.parametrize(("late_s", "asks"), [(20.0, False), (60.0, True)])
def test_scheduler_asks_for_another_leader_when_schedules_are_overdue(late_s: float, asks: bool) -> None:  # noqa: FBT001
    steps: list[str] = []

    async def work() -> None:
        fleet = SmallFleet()
        fleet.stream.log(topo.LATER_STREAM).stalled = True
        address = await fleet.accept("a", due_in_s=1)
        entry = wire.QueueEntry(command=fleet.commands()[address])
        await Publisher(fleet.caller.connection).schedule(entry, address, "p1", "otp", time.time() + 1)
        process = Process(fleet.stream, steps.append)
        running = process.start(Scheduler(process.connection, ACK_WAIT_S).run())
        await asyncio.sleep(late_s)
        process.connection.cut()
        await asyncio.sleep(20)
        assert not running.done(), "the scheduler keeps running when the server refuses or is down"
        await process.kill()

    run_whole(work())
    assert (f"after api STREAM.LEADER.STEPDOWN.{topo.LATER_STREAM}" in steps) == asks
