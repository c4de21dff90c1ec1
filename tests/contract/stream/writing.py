"""Claims: events are compare-and-set, schedules replace each other and fire, dead letters are never duplicated."""

import asyncio
import time

from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging.model import Address, parse_address
from messaging.stream import topology as topo
from messaging.stream.interface import Connection, Refused, Stored
from messaging.stream.publisher import Publisher
from tests.contract.stream.world import World, claim, lane, last
from tests.integration.streams import an_address, entry_of


def event_of(address: Address, pod: str = "") -> wire.Event:
    return wire.Event(message_id=address.message_id, client="default", pod=pod)


@claim()
async def the_next_event_is_written_only_after_the_expected_last_one(world: World) -> None:
    address, publisher = an_address(), Publisher(world.one)
    assert await publisher.append_event(an_address(), event_of(address), 0) == 1
    assert await publisher.append_event(address, event_of(address), 0) == 2
    assert await publisher.append_event(address, event_of(address), 0) is None
    assert await publisher.append_event(address, event_of(address), 7) is None
    assert await publisher.append_event(address, event_of(address), 2) == 3
    record = await last(world.other, topo.EVENT, topo.event_subject(address))
    assert record.sequence == 3
    assert record.headers == {topo.H_EXPECTED: "2"}
    before = await world.one.at(topo.EVENT, 2)
    assert before is not None, "all events of a message are kept"


@claim()
async def of_two_writers_of_the_next_event_one_wins(world: World) -> None:
    for _ in range(10):
        address = an_address()
        writers = [(Publisher(world.one), "a"), (Publisher(world.other), "b")]
        answers = await asyncio.gather(*(one.append_event(address, event_of(address, pod), 0) for one, pod in writers))
        assert sorted(answer is None for answer in answers) == [False, True]


@claim()
async def an_event_whose_answer_was_lost_is_recognised_as_our_own(world: World) -> None:
    address, publisher = an_address(), Publisher(world.one)
    async with world.answers_lost():
        writing = asyncio.create_task(publisher.append_event(address, event_of(address), 0))
        await asyncio.sleep(0.5)
        assert not writing.done()
    assert await writing == 1
    assert await publisher.append_event(address, event_of(address), 0) is None


@claim()
async def a_refused_condition_on_a_subject_without_events_names_zero(world: World) -> None:
    assert await world.one.publish("sms.event.a.b.c", b"x", {topo.H_EXPECTED: "5"}) == Refused(0)
    assert await world.one.publish("sms.event.a.b.c", b"x", {topo.H_EXPECTED: "0"}) == Stored(1)


async def scheduled(connection: Connection, address: Address) -> bool:
    return await connection.last(topo.LATER_STREAM, topo.later_subject(address)) is not None


@claim()
async def a_schedule_fires_into_its_lane_when_it_is_due_and_is_then_removed(world: World) -> None:
    address, publisher, due = an_address(), Publisher(world.one), time.time() + 1.0
    await publisher.schedule(entry_of(address), address, "p2", "bulk", due)
    assert await scheduled(world.one, address)
    consumer = await lane(world.other, "bulk", "p2")
    [delivery] = await consumer.fetch(5, 5)
    assert due <= time.time() < due + 2
    assert delivery.subject == topo.send_subject("p2", "bulk", address)
    assert delivery.data == entry_of(address).SerializeToString()
    assert set(delivery.headers) == {topo.H_SCHEDULER, topo.H_SCHEDULE_NEXT, topo.H_TTL, "Nats-Stream-Source"}
    assert delivery.headers[topo.H_SCHEDULER] == topo.later_subject(address)
    assert delivery.headers[topo.H_SCHEDULE_NEXT] == "purge"
    assert not await scheduled(world.one, address)
    fired = await last(world.one, topo.LATER_STREAM, "sms.due.>")
    assert fired.subject == topo.due_subject("p2", "bulk", address)
    assert fired.headers[topo.H_TTL] == f"{topo.DUE_KEPT_S}s"


@claim()
async def a_schedule_in_the_past_fires_at_once(world: World) -> None:
    address = an_address()
    await Publisher(world.one).schedule(entry_of(address), address, "p1", "otp", time.time() - 5)
    assert len(await (await lane(world.one)).fetch(5, 5)) == 1


@claim()
async def a_later_schedule_of_the_same_message_replaces_the_first(world: World) -> None:
    address, publisher = an_address(), Publisher(world.one)
    await publisher.schedule(entry_of(address, "first"), address, "p1", "otp", time.time() + 0.5)
    await publisher.schedule(entry_of(address, "second"), address, "p2", "otp", time.time() + 1)
    record = await last(world.one, topo.LATER_STREAM, topo.later_subject(address))
    assert (record.sequence, record.headers["Nats-Rollup"]) == (2, "sub")
    assert await world.one.at(topo.LATER_STREAM, 1) is None
    [delivery] = await (await lane(world.one, "otp", "p2")).fetch(5, 5)
    assert b"second" in delivery.data
    assert await (await lane(world.one)).fetch(5, 0.2) == []


@claim()
async def a_deleted_schedule_does_not_fire(world: World) -> None:
    address, publisher = an_address(), Publisher(world.one)
    await publisher.schedule(entry_of(address), address, "p1", "otp", time.time() + 0.7)
    await publisher.unschedule(address)
    await publisher.unschedule(address)
    assert not await scheduled(world.one, address)
    assert await (await lane(world.one)).fetch(5, 1.2) == []


@claim()
async def a_rescheduled_message_returns_although_its_first_entry_was_acknowledged_after_that(world: World) -> None:
    address, publisher, consumer = an_address(), Publisher(world.one), await lane(world.one)
    await publisher.enqueue(entry_of(address), address, "p1", "otp")
    [first] = await consumer.fetch(5, 2)
    await publisher.schedule(entry_of(address), address, "p1", "otp", time.time() + 0.5)
    await first.ack()
    [second] = await consumer.fetch(5, 3)
    assert (parse_address(second.subject), second.delivered) == (address, 1)


def letter_of(address: Address, sequence: int) -> wire.DeadLetter:
    last_event = wire.Event(message_id=address.message_id, client="default", provider="p1")
    command = wire.Command(message_id=address.message_id, client="default", provider="p1")
    return wire.DeadLetter(command=command, last=last_event, last_sequence=sequence, reason="EXHAUSTED")


@claim()
async def a_repeated_dead_letter_changes_nothing_and_one_of_a_later_event_is_added(world: World) -> None:
    address, publisher = an_address(), Publisher(world.one)
    subject = topo.dlq_subject("p1", "exhausted", address)
    for sequence, stored_at in ((3, 1), (3, 1), (2, 1), (9, 2), (9, 2)):
        await publisher.bury(letter_of(address, sequence), address)
        assert (await last(world.other, topo.DLQ, subject)).sequence == stored_at
    assert await world.one.at(topo.DLQ, 1) is not None


@claim()
async def a_record_is_deleted_only_once(world: World) -> None:
    address = an_address()
    await Publisher(world.one).bury(letter_of(address, 3), address)
    assert not await world.one.delete(topo.DLQ, 9)
    assert await world.one.delete(topo.DLQ, 1)
    assert not await world.one.delete(topo.DLQ, 1)
    assert await world.one.last(topo.DLQ, "sms.dlq.>") is None
    await Publisher(world.one).bury(letter_of(address, 3), address)
    assert (await last(world.one, topo.DLQ, "sms.dlq.>")).sequence == 2, "sequences are never used twice"


@claim()
async def next_after_walks_the_records_of_a_pattern_in_order(world: World) -> None:
    for client in ("a", "b", "a"):
        await world.one.publish(f"sms.dlq.p1.failed.{client}.k.t", client.encode())
    found = []
    after = 0
    while (record := await world.one.next_after(topo.DLQ, after + 1, "sms.dlq.*.failed.a.*.*")) is not None:
        after = record.sequence
        found.append(after)
    assert found == [1, 3]
    assert await world.one.next_after(topo.DLQ, 0, "sms.dlq.>") == await world.one.at(topo.DLQ, 1)
    assert await world.one.at(topo.DLQ, 99) is None


@claim()
async def when_the_newest_record_is_deleted_the_one_before_it_is_the_last(world: World) -> None:
    for body in (b"1", b"2"):
        await world.one.publish("sms.event.a.b.c", body)
    assert await world.one.delete(topo.EVENT, 2)
    assert (await last(world.one, topo.EVENT, "sms.event.a.b.c")).data == b"1"
    assert await world.one.publish("sms.event.a.b.c", b"x", {topo.H_EXPECTED: "2"}) == Refused(1)
