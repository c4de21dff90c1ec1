"""The faults that a test can inject into the memory stream: server away, answer lost, process crashing at any step."""

import asyncio
import time
from typing import Any

import pytest

from messaging.errors import StreamDown
from messaging.runtime.config import Settings
from messaging.stream import topology as topo
from messaging.stream.buckets import Bucket
from messaging.stream.interface import Stored
from messaging.stream.publisher import Accepted, Publisher
from tests.integration.streams import an_address, entry_of
from tests.memory_stream import Crash, MemoryConnection, MemoryStream, NotKnown
from tests.unit.virtual_time import in_virtual_time

SUBJECT = "sms.event.a.b.c"


def a_stream() -> MemoryStream:
    return MemoryStream(Settings(), ["p1"], time.time)


class At:
    """Raises a fault the n-th time that a step is reached."""

    def __init__(self, step: str, fault: BaseException, count: int = 1) -> None:
        self.seen: list[str] = []
        self._step, self._fault, self._count = step, fault, count

    def __call__(self, step: str) -> None:
        self.seen.append(step)
        if step == self._step and self.seen.count(step) == self._count:
            raise self._fault


@in_virtual_time
async def test_a_server_that_is_away_answers_nothing_until_it_is_back() -> None:
    stream = a_stream()
    one, other = MemoryConnection(stream), MemoryConnection(stream)
    consumer = await one.consumer(topo.SEND, "dispatch-p1-otp")
    await Publisher(other).enqueue(entry_of(an_address()), an_address(), "p1", "otp")
    [held] = await consumer.fetch(1)
    fetching = asyncio.create_task(consumer.fetch(1, 5))
    await asyncio.sleep(1)
    one.cut()
    assert not one.connected
    for asking in (
        one.publish(SUBJECT, b""),
        one.last(topo.EVENT, SUBJECT),
        one.api("INFO"),
        Bucket(one, topo.LIMITS_BUCKET).get("a"),
    ):
        with pytest.raises(StreamDown):
            await asking
    assert not await held.ack(budget_s=1)
    await held.keep()
    await Publisher(other).enqueue(entry_of(an_address()), an_address(), "p1", "otp")
    assert await fetching == []
    assert await consumer.fetch(1) == []
    one.mend()
    assert [delivery.delivered for delivery in await consumer.fetch(5)] == [1]
    assert await held.ack()


@in_virtual_time
async def test_a_lost_answer_is_waited_for_until_the_time_out_and_its_effect_stays() -> None:
    stream = a_stream()
    one = MemoryConnection(stream, At("after publish sms.event", StreamDown("lost")), timeout_s=2)
    began = time.monotonic()
    with pytest.raises(StreamDown):
        await one.publish(SUBJECT, b"x")
    assert time.monotonic() == began + 2
    assert await one.publish(SUBJECT, b"y") == Stored(2)


@in_virtual_time
async def test_a_request_that_never_arrives_has_no_effect() -> None:
    one = MemoryConnection(a_stream(), At("before publish sms.event", StreamDown("never arrives")))
    with pytest.raises(StreamDown):
        await one.publish(SUBJECT, b"x")
    assert await one.last(topo.EVENT, SUBJECT) is None


@pytest.mark.parametrize(("step", "stored"), [("before publish sms.event", False), ("after publish sms.event", True)])
@in_virtual_time
async def test_a_process_that_crashes_does_nothing_more(step: str, stored: bool) -> None:  # noqa: FBT001
    stream = a_stream()
    dying, living = MemoryConnection(stream, At(step, Crash("here"))), MemoryConnection(stream)
    await Publisher(living).enqueue(entry_of(an_address()), an_address(), "p1", "otp")
    [held] = await (await dying.consumer(topo.SEND, "dispatch-p1-otp")).fetch(1)
    with pytest.raises(Crash):
        await dying.publish(SUBJECT, b"x")
    for ending in (dying.publish(SUBJECT, b"y"), held.ack(), held.give_back(), dying.last(topo.EVENT, SUBJECT)):
        with pytest.raises(Crash):
            await ending
    record = await living.last(topo.EVENT, SUBJECT)
    assert (record is not None) == stored
    [again] = await (await living.consumer(topo.SEND, "dispatch-p1-otp")).fetch(1, 30)
    assert again.delivered == 2


@in_virtual_time
async def test_a_busy_key_is_tried_again() -> None:
    one = MemoryConnection(a_stream())
    one.busy = 3
    address = an_address()
    publisher = Publisher(one)
    assert await publisher.accept(entry_of(address), address, "otp", ttl_s=None, budget_s=1) == Accepted(1)
    assert one.busy == 0


@in_virtual_time
async def test_every_step_lets_other_tasks_run_and_has_a_name() -> None:
    at = At("", Crash())
    one = MemoryConnection(a_stream(), at)
    order: list[str] = []

    async def write(name: str) -> None:
        order.append(name)
        await one.publish(SUBJECT, b"x")
        order.append(name)

    await asyncio.gather(write("a"), write("b"))
    assert order == ["a", "b", "a", "b"]
    await one.last(topo.EVENT, SUBJECT)
    await (await one.consumer(topo.SEND, "dispatch-p1-otp")).fetch(1, 0.1)
    await one.api("INFO")
    assert at.seen == [
        *["before publish sms.event"] * 2,
        *["after publish sms.event"] * 2,
        "before last SMS_EVENT",
        "after last SMS_EVENT",
        "before fetch dispatch-p1-otp",
        "after fetch dispatch-p1-otp",
        "before api INFO",
        "after api INFO",
    ]


@pytest.mark.parametrize(
    ("what", "asking"),
    [
        ("subject", lambda one: one.publish("sms.new.a", b"")),
        ("header", lambda one: one.publish(SUBJECT, b"", {"Nats-Msg-Id": "1"})),
        ("verb", lambda one: one.api("STREAM.PURGE.SMS_EVENT")),
        ("time to live", lambda one: one.publish("$KV.SMS_LIMITS.a", b"", {topo.H_TTL: "1d"})),
        ("direct read", lambda one: one.last_of_each(topo.EVENT, "sms.event.>")),
    ],
)
@in_virtual_time
async def test_what_is_not_known_here_is_refused_loudly(what: str, asking: Any) -> None:
    with pytest.raises(NotKnown):
        await asking(MemoryConnection(a_stream()))
