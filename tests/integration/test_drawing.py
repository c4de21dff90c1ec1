"""Consumers on a real server: deliveries that are given back, acknowledged, or forgotten by a crashed server."""

import asyncio
import pathlib
import time

from messaging.model import parse_address
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.connection import NatsConnection, open_connection
from messaging.stream.publisher import Publisher
from ops.embedded import NatsServer
from tests.integration.streams import PROVIDERS, SETTINGS, accept, an_address, entry_of


async def test_given_back_message_is_redelivered_at_once_and_an_acknowledged_one_is_not(
    connection: NatsConnection,
) -> None:
    consumer = await connection.consumer(topo.SEND, topo.dispatch_consumer("p2", "bulk"))
    address = an_address()
    await Publisher(connection).enqueue(entry_of(address), address, "p2", "bulk")
    [first] = await consumer.fetch(5, 2)
    await first.give_back()
    [second] = await consumer.fetch(5, 1)
    assert (second.sequence, second.delivered) == (first.sequence, 2)
    await second.ack()
    await second.ack()
    assert await consumer.fetch(5, 0.3) == []


async def test_messages_that_arrived_late_are_not_dropped_when_the_server_dies(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x") as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        durable = topo.dispatch_consumer("p1", "normal")
        consumer = await c.consumer(topo.SEND, durable)
        late = f"{consumer._inbox}late"
        await c.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{topo.SEND}.{durable}", b'{"batch": 3}', late)
        addresses = [an_address() for _ in range(3)]
        for address in addresses:
            await accept(c, address)
        end = time.monotonic() + 20
        while len(consumer._arrived) < 3:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        server.kill()
        while c.connected:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        assert [parse_address(one.subject) for one in await consumer.fetch(8, 0.5)] == addresses
        assert await consumer.fetch(8, 0.5) == []
        server.start()
    server.stop()


async def test_acknowledgement_without_an_answer_ends_within_its_budget(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x", timeout_s=0.2) as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        address = an_address()
        await accept(c, address)
        consumer = await c.consumer(topo.SEND, topo.dispatch_consumer("p1", "normal"))
        [delivery] = await consumer.fetch(1, 2)
        server.kill()
        began = time.monotonic()
        assert not await delivery.ack(budget_s=0.8)
        assert time.monotonic() - began < 8  # the budget is 0.8 s; the default is 10 s
    server.stop()


async def forget_deliveries(connection: NatsConnection, durable: str) -> None:
    """Recreate the consumer: a killed server can forget its last deliveries in the same way. The messages stay."""
    context = connection.client.jetstream()
    info = await context.consumer_info(topo.SEND, durable)
    await context.delete_consumer(topo.SEND, durable)
    assert info.config is not None
    await context.add_consumer(topo.SEND, info.config)


async def test_forgotten_delivery_is_drawn_again_after_a_failed_acknowledgement(
    connection: NatsConnection,
) -> None:
    durable, publisher = topo.dispatch_consumer("p2", "normal"), Publisher(connection)
    consumer = await connection.consumer(topo.SEND, durable)
    address = an_address()
    await publisher.enqueue(entry_of(address), address, "p2", "normal")
    [first] = await consumer.fetch(5, 2)
    await forget_deliveries(connection, durable)
    assert not await first.ack(budget_s=0.5)
    [again] = await consumer.fetch(5, 2)
    assert (again.sequence, again.delivered) == (first.sequence, first.delivered)
    assert again.data == first.data
    assert await again.ack()


async def test_forgotten_delivery_that_is_still_held_is_acknowledged_when_it_is_delivered_again(
    connection: NatsConnection,
) -> None:
    durable, publisher = topo.dispatch_consumer("p2", "normal"), Publisher(connection)
    consumer = await connection.consumer(topo.SEND, durable)
    for address in (an_address(), an_address()):
        await publisher.enqueue(entry_of(address), address, "p2", "normal")
    [_, held] = await consumer.fetch(2, 2)
    await forget_deliveries(connection, durable)
    acking = asyncio.create_task(held.ack(budget_s=8))
    await asyncio.sleep(1)
    assert not acking.done()
    assert await consumer.fetch(2, 1) == [], "both are held already: neither is a new message"
    assert await acking
    await forget_deliveries(connection, durable)
    assert len(await consumer.fetch(5, 1)) <= 1
    info = await connection.client.jetstream().consumer_info(topo.SEND, durable)
    assert (info.num_pending or 0) + (info.num_ack_pending or 0) == 1, "only the other one is left"


async def test_busy_task_ends_when_it_is_cancelled(connection: NatsConnection) -> None:
    address = an_address()
    consumer = await connection.consumer(topo.SEND, topo.dispatch_consumer("p2", "bulk"))

    async def ask() -> None:
        while True:
            await connection.last(topo.EVENT, topo.event_subject(address))

    async def draw() -> None:
        while True:
            await Publisher(connection).enqueue(entry_of(address), address, "p2", "bulk")
            for delivery in await consumer.fetch(1, 0.5):
                await delivery.ack()

    for n in range(60):
        task = asyncio.create_task(ask() if n % 2 else draw())
        await asyncio.sleep(0.002 + n / 10_000)
        task.cancel()
        _, late = await asyncio.wait({task}, timeout=20)
        assert not late
