"""Claims: the work queue delivers each message to one pod at a time, until it is acknowledged."""

import asyncio
import time

from messaging.model import parse_address
from messaging.stream import topology as topo
from messaging.stream.interface import Connection, Delivery
from messaging.stream.publisher import Publisher
from tests.contract.stream.world import ACK_WAIT_S, World, claim, enqueue, lane, until
from tests.integration.streams import an_address, entry_of


async def info(connection: Connection) -> dict[str, object]:
    answer = await connection.api(f"CONSUMER.INFO.{topo.SEND}.{topo.dispatch_consumer('p1', 'otp')}")
    names = ("num_pending", "num_ack_pending", "num_redelivered", "num_waiting")
    return {
        "delivered": tuple(answer["delivered"][name] for name in ("consumer_seq", "stream_seq")),
        "floor": tuple(answer["ack_floor"][name] for name in ("consumer_seq", "stream_seq")),
        **{name: answer[name] for name in names if answer[name]},
    }


async def counted(connection: Connection, waiting: int) -> None:
    """Wait until the consumer has counted what was stored: a busy server does so a moment after the acknowledgement."""

    async def done() -> bool:
        return (await info(connection)).get("num_pending") == waiting

    await until(done)


def places(fetched: list[Delivery]) -> list[tuple[int, int, int]]:
    return [(one.sequence, one.delivered, one.waiting) for one in fetched]


@claim()
async def an_acknowledged_message_is_gone_and_a_second_acknowledgement_is_harmless(world: World) -> None:
    await enqueue(world.one)
    consumer = await lane(world.one)
    [delivery] = await consumer.fetch(5, 2)
    assert await info(world.one) == {"delivered": (1, 1), "floor": (0, 0), "num_ack_pending": 1}
    assert await delivery.ack()
    assert await delivery.ack()
    assert await consumer.fetch(5, 0.1) == []
    assert await world.one.last(topo.SEND, "sms.send.>") is None
    assert await info(world.one) == {"delivered": (1, 1), "floor": (1, 1)}


@claim()
async def a_light_acknowledgement_removes_the_message(world: World) -> None:
    await enqueue(world.one)
    [delivery] = await (await lane(world.one)).fetch(5, 2)
    await delivery.ack_lightly()

    async def gone() -> bool:
        return await world.one.last(topo.SEND, "sms.send.>") is None

    await until(gone)


@claim()
async def a_message_given_back_is_redelivered_at_once_and_counted(world: World) -> None:
    await enqueue(world.one)
    [first] = await (await lane(world.one)).fetch(5, 2)
    await first.give_back()
    began = time.monotonic()
    again = await (await lane(world.other)).fetch(5, 1)
    assert time.monotonic() - began < ACK_WAIT_S
    assert places(again) == [(1, 2, 0)]
    assert (await info(world.one))["num_redelivered"] == 1


@claim()
async def a_message_that_is_not_acknowledged_is_redelivered_after_the_ack_wait(world: World) -> None:
    await enqueue(world.one)
    [first] = await (await lane(world.one)).fetch(5, 2)
    fetched_at = time.monotonic()
    other = await lane(world.other)
    assert await other.fetch(5, 0.3) == []
    assert places(await other.fetch(5, 3)) == [(1, 2, 0)]
    assert time.monotonic() - fetched_at >= ACK_WAIT_S - 0.05
    assert await first.ack(), "the first holder may still acknowledge it"
    assert await world.one.last(topo.SEND, "sms.send.>") is None


@claim()
async def a_late_give_back_takes_the_message_from_its_present_holder(world: World) -> None:
    await enqueue(world.one)
    [first] = await (await lane(world.one)).fetch(5, 2)
    other = await lane(world.other)
    assert places(await other.fetch(5, 3)) == [(1, 2, 0)]
    await first.give_back()
    assert places(await other.fetch(5, 0.5)) == [(1, 3, 0)]


@claim()
async def keep_restarts_the_ack_wait(world: World) -> None:
    await enqueue(world.one)
    [first] = await (await lane(world.one)).fetch(5, 2)
    other = await lane(world.other)
    for _ in range(3):
        assert await other.fetch(5, 0.6 * ACK_WAIT_S) == []
        await first.keep()
    assert places(await other.fetch(5, 3)) == [(1, 2, 0)]


@claim()
async def keep_and_give_back_do_nothing_after_the_message_was_given_back(world: World) -> None:
    await enqueue(world.one)
    [first] = await (await lane(world.one)).fetch(5, 2)
    await first.give_back()
    await first.keep()
    await first.give_back()
    [second] = await (await lane(world.other)).fetch(5, 1)
    assert second.delivered == 2
    assert await second.ack()
    await second.give_back()
    assert await (await lane(world.other)).fetch(5, 0.1) == []


@claim()
async def one_message_per_subject_waits_and_a_newer_one_replaces_it(world: World) -> None:
    address = await enqueue(world.one, "old")
    await enqueue(world.one, "new", address)
    fetched = await (await lane(world.one)).fetch(5, 1)
    assert places(fetched) == [(2, 1, 0)]
    assert b"new" in fetched[0].data


@claim()
async def a_held_message_that_is_replaced_is_not_redelivered(world: World) -> None:
    address = await enqueue(world.one, "old")
    consumer = await lane(world.one)
    [held] = await consumer.fetch(5, 2)
    await enqueue(world.one, "new", address)
    assert await info(world.one) == {"delivered": (1, 1), "floor": (1, 1), "num_pending": 1}
    [new] = await (await lane(world.other)).fetch(5, 1)
    assert await held.ack(), "an acknowledgement of a message that is gone is confirmed"
    await new.give_back()
    assert places(await consumer.fetch(5, 2 * ACK_WAIT_S)) == [(2, 2, 0)]


@claim()
async def redeliveries_come_before_new_messages(world: World) -> None:
    for _ in range(3):
        await enqueue(world.one)
    await counted(world.one, 3)
    consumer = await lane(world.one)
    first, second = await consumer.fetch(2, 2)
    assert places([first, second]) == [(1, 1, 2), (2, 1, 1)]
    await second.give_back()
    await first.give_back()
    await asyncio.sleep(0.2)  # the server does not answer a give-back; it has received it by now
    assert places(await consumer.fetch(5, 2)) == [(2, 2, 1), (1, 2, 1), (3, 1, 0)]


@claim()
async def lanes_and_providers_are_separate(world: World) -> None:
    publisher = Publisher(world.one)
    for provider, name in (("p1", "otp"), ("p1", "bulk"), ("p2", "otp")):
        address = an_address()
        await publisher.enqueue(entry_of(address), address, provider, name)
        [delivery] = await (await lane(world.other, name, provider)).fetch(5, 1)
        assert parse_address(delivery.subject) == address
        assert delivery.subject.startswith(f"sms.send.{provider}.{name}.")


@claim()
async def a_fetch_returns_what_is_there_and_an_empty_list_when_its_time_is_over(world: World) -> None:
    consumer = await lane(world.one)
    began = time.monotonic()
    assert await consumer.fetch(5, 0.3) == []
    assert 0.25 <= time.monotonic() - began < 2
    for _ in range(3):
        await enqueue(world.one)
    await counted(world.one, 3)
    began = time.monotonic()
    assert len(await consumer.fetch(2, 20)) == 2
    assert len(await consumer.fetch(2, 20)) == 1
    assert time.monotonic() - began < 10


@claim()
async def a_waiting_fetch_gets_the_first_message(world: World) -> None:
    waiting = [asyncio.create_task((await lane(c)).fetch(2, 5)) for c in (world.one, world.other)]
    await asyncio.sleep(0.2)
    for _ in range(3):
        await enqueue(world.one)
    assert sorted(len(fetched) for fetched in await asyncio.gather(*waiting)) == [1, 1]
    assert len(await (await lane(world.one)).fetch(5, 1)) == 1


@claim()
async def messages_for_a_cancelled_fetch_are_returned_by_the_next_fetch_of_its_consumer(world: World) -> None:
    mine, other = await lane(world.one), await lane(world.other)
    fetching = asyncio.create_task(mine.fetch(2, 5))
    await asyncio.sleep(0.1)
    fetching.cancel()
    await asyncio.wait({fetching})
    await enqueue(world.other)
    assert await other.fetch(2, 0.2) == []
    assert places(await mine.fetch(2, 1)) == [(1, 1, 0)]


@claim()
async def an_interrupted_fetch_returns_at_once_and_its_messages_come_with_the_next_one(world: World) -> None:
    consumer = await lane(world.one)
    fetching = asyncio.create_task(consumer.fetch(2, 20))
    await asyncio.sleep(0.2)
    consumer.interrupt()
    async with asyncio.timeout(5):
        assert await fetching == []
    await enqueue(world.other)
    assert places(await consumer.fetch(2, 5)) == [(1, 1, 0)]


@claim()
async def a_consumer_that_has_finished_takes_no_message_from_the_others(world: World) -> None:
    consumer = await lane(world.one)
    fetching = asyncio.create_task(consumer.fetch(2, 20))
    await asyncio.sleep(0.2)
    await consumer.finish()
    async with asyncio.timeout(5):
        assert await fetching == []
    await enqueue(world.other)
    assert places(await (await lane(world.other)).fetch(2, 5)) == [(1, 1, 0)]
    assert await consumer.fetch(2, 0.1) == []


@claim()
async def a_consumer_that_does_not_exist_returns_nothing(world: World) -> None:
    assert await (await world.one.consumer(topo.SEND, "dispatch-p9-otp")).fetch(1, 0.2) == []


@claim()
async def a_replaced_or_deleted_message_is_not_counted_as_waiting(world: World) -> None:
    address = await enqueue(world.one)
    await enqueue(world.one, "again", address)
    await enqueue(world.one)
    record = await world.one.next_after(topo.SEND, 3, "sms.send.>")
    assert record is not None
    assert await world.one.delete(topo.SEND, record.sequence)
    assert await info(world.one) == {"delivered": (0, 0), "floor": (0, 0), "num_pending": 1}
