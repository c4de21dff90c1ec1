"""The stream's own promises, on a real server: conditions, lost answers, schedules, set-up."""

import asyncio
import os
import pathlib
import time
from collections.abc import AsyncIterator
from urllib.parse import urlparse

import attrs
import pytest
import pytest_asyncio
from proxy import FaultProxy
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging.config import Door, Servers, Settings
from messaging.errors import ServerTooOld, StreamDown, StreamFull, TopologyConflict
from messaging.model import KEY_BYTES, Address, key_from_bytes, key_of_request, new_address, parse_address
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.buckets import Bucket
from messaging.stream.connection import Connection, open_connection
from messaging.stream.consumer import open_consumer
from messaging.stream.publisher import Accepted, Publisher, Twin
from ops.embedded import NatsServer

SETTINGS = Settings()
PROVIDERS = ["p1", "p2"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    one = NatsServer(tmp_path_factory.mktemp("stream"))
    one.start()
    async with open_connection(one.url, "test") as connection:
        await setup.ensure(connection, SETTINGS, PROVIDERS)
    yield one
    one.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    async with open_connection(server.url, "test", timeout_s=0.5) as one:
        yield one


def an_address(request_id: str = "") -> Address:
    key = key_of_request(b"k", "default", request_id) if request_id else key_from_bytes(os.urandom(KEY_BYTES))
    return new_address("default", time.time_ns() // 1_000_000, key)


def entry_of(address: Address, body: str = "Hello", provider: str = "p1") -> wire.QueueEntry:
    command = wire.Command(message_id=address.message_id, client="default", body=body, provider=provider)
    return wire.QueueEntry(command=command)


async def accept(connection: Connection, address: Address, lane: str = "normal", body: str = "Hello"):
    publisher = Publisher(connection)
    return await publisher.accept(entry_of(address, body), address, lane, ttl_s=None, budget_s=5)


async def test_one_key_is_accepted_once_whatever_time_provider_and_lane(connection: Connection) -> None:
    first = an_address("once")
    later = attrs.evolve(first, time=f"{int(first.time, 16) + 7:012x}")
    assert isinstance(await accept(connection, first), Accepted)
    twin = await accept(connection, later, lane="bulk")
    assert isinstance(twin, Twin)
    assert parse_address(twin.record.subject) == first


async def test_twins_at_the_same_moment_become_one(server: NatsServer) -> None:
    async with open_connection(server.url, "a") as one, open_connection(server.url, "b") as other:
        for n in range(50):
            base = an_address(f"race-{n}")
            addresses = [attrs.evolve(base, time=f"{int(base.time, 16) + i:012x}") for i in range(4)]
            answers = await asyncio.gather(
                *(accept(connection, address) for connection, address in zip([one, other] * 2, addresses, strict=True))
            )
            assert sorted(type(answer).__name__ for answer in answers) == ["Accepted", "Twin", "Twin", "Twin"]


async def test_an_acceptance_whose_answer_was_lost_is_recognised_as_our_own(server: NatsServer) -> None:
    async with FaultProxy(urlparse(server.url).port or 0) as proxy, open_connection(proxy.url, "x", timeout_s=0.3) as c:
        address = an_address("lost answer")
        proxy.muted = True
        asking = asyncio.create_task(accept(c, address))
        await asyncio.sleep(0.5)
        proxy.muted = False
        proxy.cut()
        answer = await asking
        assert isinstance(answer, Accepted)
        record = await c.last(topo.ACCEPT, topo.accept_filter(address))
        assert record is not None
        assert record.sequence == answer.sequence


async def test_an_event_whose_answer_was_lost_is_recognised_as_our_own(server: NatsServer) -> None:
    async with FaultProxy(urlparse(server.url).port or 0) as proxy, open_connection(proxy.url, "x", timeout_s=0.3) as c:
        address, publisher = an_address(), Publisher(c)
        event = wire.Event(message_id=address.message_id, state=pb.MESSAGE_STATE_SENDING)
        proxy.muted = True
        asking = asyncio.create_task(publisher.append_event(address, event, 0))
        await asyncio.sleep(0.5)
        proxy.muted = False
        proxy.cut()
        first = await asking
        assert first is not None
        assert await publisher.append_event(address, wire.Event(message_id=address.message_id), 0) is None
        assert await publisher.append_event(address, wire.Event(message_id=address.message_id), first) is not None


async def test_one_of_two_writers_of_the_next_event_wins(connection: Connection) -> None:
    publisher = Publisher(connection)
    for _ in range(30):
        address = an_address()
        events = [wire.Event(message_id=address.message_id, pod=pod) for pod in "ab"]
        answers = await asyncio.gather(*(publisher.append_event(address, event, 0) for event in events))
        assert sum(answer is not None for answer in answers) == 1


async def test_a_request_is_remembered_through_a_crash_of_the_server(server: NatsServer) -> None:
    async with open_connection(server.url, "x", timeout_s=0.5) as c:
        address = an_address("crash")
        first = await accept(c, address)
        server.kill()
        server.start()
        again = await Publisher(c).accept(
            entry_of(an_address("crash"), "again"), an_address("crash"), "normal", ttl_s=None, budget_s=10
        )
        assert isinstance(first, Accepted)
        assert isinstance(again, Twin)
        assert again.record.sequence == first.sequence


async def test_an_accepted_message_reaches_its_lane_and_a_put_off_one_comes_back(connection: Connection) -> None:
    address, publisher = an_address(), Publisher(connection)
    consumer = await open_consumer(connection, topo.SEND, topo.dispatch_consumer("p2", "otp"))
    entry = entry_of(address, provider="p2")
    await publisher.accept(entry, address, "otp", ttl_s=60, budget_s=5)
    [first] = await consumer.fetch(5, 2)
    assert parse_address(first.subject) == address
    due = time.time() + 1.2
    await publisher.schedule(entry, address, "p2", "otp", time.time() + 60)
    await publisher.schedule(entry, address, "p2", "otp", due)
    await first.ack()
    assert await consumer.fetch(5, 0.5) == []
    [second] = await consumer.fetch(5, 3)
    assert (parse_address(second.subject), time.time() >= due) == (address, True)
    await second.ack()
    await publisher.schedule(entry, address, "p2", "otp", time.time() + 1)
    await publisher.unschedule(address)
    assert await consumer.fetch(5, 2) == []


async def test_what_is_given_back_comes_again_at_once_and_what_is_acknowledged_does_not(
    connection: Connection,
) -> None:
    consumer = await open_consumer(connection, topo.SEND, topo.dispatch_consumer("p2", "bulk"))
    address = an_address()
    await Publisher(connection).enqueue(entry_of(address), address, "p2", "bulk")
    [first] = await consumer.fetch(5, 2)
    await first.give_back()
    [second] = await consumer.fetch(5, 1)
    assert (second.sequence, second.delivered) == (first.sequence, 2)
    await second.ack()
    await second.ack()
    assert await consumer.fetch(5, 0.3) == []


async def test_what_came_late_is_not_dropped_when_the_server_goes_away(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x") as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        durable = topo.dispatch_consumer("p1", "normal")
        consumer = await open_consumer(c, topo.SEND, durable)
        late = f"{consumer._subscription.subject.removesuffix('*')}late"
        await c.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{topo.SEND}.{durable}", b'{"batch": 3}', late)
        addresses = [an_address() for _ in range(3)]
        for address in addresses:
            await accept(c, address)
        end = time.monotonic() + 5
        while consumer._subscription.pending_msgs < 3:
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


async def test_an_acknowledgement_that_nobody_answers_is_given_up(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x", timeout_s=0.2) as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        address = an_address()
        await accept(c, address)
        consumer = await open_consumer(c, topo.SEND, topo.dispatch_consumer("p1", "normal"))
        [delivery] = await consumer.fetch(1, 2)
        server.kill()
        began = time.monotonic()
        assert not await delivery.ack(budget_s=0.8)
        assert time.monotonic() - began < 3
    server.stop()


async def forget_deliveries(connection: Connection, durable: str) -> None:
    """What a killed server can do: forget what it delivered last. The consumer is made anew, the messages stay."""
    context = connection.client.jetstream()
    info = await context.consumer_info(topo.SEND, durable)
    await context.delete_consumer(topo.SEND, durable)
    assert info.config is not None
    await context.add_consumer(topo.SEND, info.config)


async def test_a_forgotten_delivery_that_was_given_up_is_drawn_again_at_once(connection: Connection) -> None:
    durable, publisher = topo.dispatch_consumer("p2", "normal"), Publisher(connection)
    consumer = await open_consumer(connection, topo.SEND, durable)
    address = an_address()
    await publisher.enqueue(entry_of(address), address, "p2", "normal")
    [first] = await consumer.fetch(5, 2)
    await forget_deliveries(connection, durable)
    assert not await first.ack(budget_s=0.5)
    [again] = await consumer.fetch(5, 2)
    assert (again.sequence, again.delivered) == (first.sequence, first.delivered)
    assert again.data == first.data
    assert await again.ack()


async def test_a_forgotten_delivery_that_is_still_held_is_acknowledged_once_drawn_anew(connection: Connection) -> None:
    durable, publisher = topo.dispatch_consumer("p2", "normal"), Publisher(connection)
    consumer = await open_consumer(connection, topo.SEND, durable)
    for address in (an_address(), an_address()):
        await publisher.enqueue(entry_of(address), address, "p2", "normal")
    [_, held] = await consumer.fetch(2, 2)
    await forget_deliveries(connection, durable)
    acking = asyncio.create_task(held.ack(budget_s=8))
    await asyncio.sleep(1)
    assert not acking.done()
    assert await consumer.fetch(2, 1) == [], "we hold both: neither is a new message"
    assert await acking
    await forget_deliveries(connection, durable)
    assert len(await consumer.fetch(5, 1)) <= 1
    info = await connection.client.jetstream().consumer_info(topo.SEND, durable)
    assert (info.num_pending or 0) + (info.num_ack_pending or 0) == 1, "only the other one is left"


async def test_a_busy_task_ends_when_it_is_told_to(connection: Connection) -> None:
    address = an_address()
    consumer = await open_consumer(connection, topo.SEND, topo.dispatch_consumer("p2", "bulk"))

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
        _, late = await asyncio.wait({task}, timeout=2)
        assert not late


async def test_a_full_stream_says_so_and_keeps_nothing_of_the_message(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    settings = attrs.evolve(SETTINGS, servers=Servers(accept_max_bytes=40_000))
    async with open_connection(server.url, "x") as c:
        await setup.ensure(c, settings, PROVIDERS)
        accepted: list[Address] = []

        async def fill() -> None:
            while True:
                accepted.append(address := an_address())
                await accept(c, address, body="x" * 1000)

        with pytest.raises(StreamFull):
            await fill()
        address = accepted.pop()
        assert 20 < len(accepted) < 60
        assert await c.last(topo.ACCEPT, topo.accept_filter(address)) is None
        for one in accepted:
            assert await c.last(topo.ACCEPT, topo.accept_filter(one)) is not None
    server.stop()


async def test_without_a_server_accepting_fails_within_its_budget(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x", timeout_s=0.3) as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        server.kill()
        began = time.monotonic()
        with pytest.raises(StreamDown):
            await Publisher(c).accept(entry_of(an_address()), an_address(), "otp", ttl_s=None, budget_s=1)
        assert time.monotonic() - began < 3
        server.start()
        end = time.monotonic() + 10
        while not c.connected:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert isinstance(await accept(c, an_address()), Accepted)
    server.stop()


async def test_the_set_up_is_repeatable_and_refuses_what_would_lose_data(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x") as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        assert {one.state for one in await setup.ensure(c, SETTINGS, PROVIDERS)} == {"as wanted"}
        longer = attrs.evolve(SETTINGS, door=Door(window_s=2 * 86400))
        changed = [one.name for one in await setup.ensure(c, longer, PROVIDERS) if one.state == "changed"]
        assert changed == [topo.ACCEPT]
        with pytest.raises(TopologyConflict) as caught:
            await setup.ensure(c, SETTINGS, PROVIDERS)
        assert caught.value.name == topo.ACCEPT
        assert {one.state for one in await setup.inspect(c, longer, PROVIDERS)} == {"as wanted"}
        await c.api("STREAM.DELETE.SMS_DLQ")
        await c.api("STREAM.CREATE.SMS_DLQ", {"name": "SMS_DLQ", "subjects": ["sms.dlq.>"], "retention": "interest"})
        with pytest.raises(TopologyConflict):
            await setup.ensure(c, longer, PROVIDERS)
    server.stop()


async def test_a_server_that_is_too_old_is_refused(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topo, "MIN_API_LEVEL", 99)
    with pytest.raises(ServerTooOld, match="level 99"):
        await setup.ensure(connection, SETTINGS, PROVIDERS)


async def test_a_bucket_compares_and_sets_and_forgets_in_time(connection: Connection) -> None:
    bucket = Bucket(connection, topo.LIMITS_BUCKET)
    heard: list[tuple[str, object]] = []
    async with bucket.listening("t.*", lambda key, document: heard.append((key, document))):
        first = await bucket.compare_and_set("t.a", {"n": 1}, 0)
        assert first is not None
        assert await bucket.compare_and_set("t.a", {"n": 2}, 0) is None
        assert await bucket.compare_and_set("t.a", {"n": 2}, first) is not None
        await bucket.put("t.b", {"n": 3}, ttl_s=1)
        assert {key: value for key, (_, value) in (await bucket.all("t.*")).items()} == {
            "t.a": {"n": 2},
            "t.b": {"n": 3},
        }
        await asyncio.sleep(0.05)
    assert ("t.b", {"n": 3}) in heard
    end = time.monotonic() + 5
    while (await bucket.get("t.b"))[1] is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    await bucket.delete("t.a")
    assert await bucket.all("t.*") == {}
