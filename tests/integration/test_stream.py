"""The stream on a real server: conditions, lost answers, schedules, set-up."""

import asyncio
import pathlib
import time

import attrs
import pytest
from proxy import FaultProxy
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging.errors import ServerTooOld, StreamDown, StreamFull, TooFewServers, TopologyConflict
from messaging.model import Address, parse_address
from messaging.runtime.config import GatewaySettings, ServerSettings
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.buckets import Bucket
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from messaging.stream.publisher import Accepted, AlreadyAccepted, Publisher
from ops.embedded import NatsServer
from tests.integration.streams import PROVIDERS, SETTINGS, accept, an_address, entry_of


async def test_key_is_accepted_once_whatever_the_time_provider_and_lane(connection: Connection) -> None:
    first = an_address("once")
    later = attrs.evolve(first, time=f"{int(first.time, 16) + 7:012x}")
    assert isinstance(await accept(connection, first), Accepted)
    repeat = await accept(connection, later, lane="bulk")
    assert isinstance(repeat, AlreadyAccepted)
    assert parse_address(repeat.record.subject) == first


async def test_concurrent_requests_with_one_key_become_one_message(server: NatsServer) -> None:
    async with open_connection(server.url, "a") as one, open_connection(server.url, "b") as other:
        for n in range(50):
            base = an_address(f"race-{n}")
            addresses = [attrs.evolve(base, time=f"{int(base.time, 16) + i:012x}") for i in range(4)]
            answers = await asyncio.gather(
                *(accept(connection, address) for connection, address in zip([one, other] * 2, addresses, strict=True))
            )
            assert sorted(type(answer).__name__ for answer in answers) == [
                "Accepted",
                "AlreadyAccepted",
                "AlreadyAccepted",
                "AlreadyAccepted",
            ]


async def test_acceptance_whose_answer_was_lost_is_recognised(server: NatsServer) -> None:
    async with FaultProxy(server.url) as proxy, open_connection(proxy.url, "x", timeout_s=0.3) as c:
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


async def test_event_whose_answer_was_lost_is_recognised(server: NatsServer) -> None:
    async with FaultProxy(server.url) as proxy, open_connection(proxy.url, "x", timeout_s=0.3) as c:
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


async def test_key_is_remembered_after_a_crash_of_the_server(server: NatsServer) -> None:
    async with open_connection(server.url, "x", timeout_s=0.5) as c:
        address = an_address("crash")
        first = await accept(c, address)
        server.kill()
        server.start()
        again = await Publisher(c).accept(
            entry_of(an_address("crash"), "again"), an_address("crash"), "normal", ttl_s=None, budget_s=10
        )
        assert isinstance(first, Accepted)
        assert isinstance(again, AlreadyAccepted)
        assert again.record.sequence == first.sequence


async def test_accepted_message_reaches_its_lane_and_returns_when_its_schedule_is_due(connection: Connection) -> None:
    address, publisher = an_address(), Publisher(connection)
    consumer = await connection.consumer(topo.SEND, topo.dispatch_consumer("p2", "otp"))
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


async def test_full_stream_refuses_a_message_and_keeps_nothing_of_it(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    settings = attrs.evolve(SETTINGS, servers=ServerSettings(accept_max_bytes=40_000))
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


async def test_event_waits_for_room_and_is_not_lost(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x") as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        config = (await c.api(f"STREAM.INFO.{topo.EVENT}"))["config"]
        address, publisher = an_address(), Publisher(c)
        event = wire.Event(message_id=address.message_id, client="default", state=pb.MESSAGE_STATE_SENDING)
        first = await publisher.append_event(address, event, 0)
        await c.api(f"STREAM.UPDATE.{topo.EVENT}", {**config, "max_msgs": 1, "discard": "new"})
        with pytest.raises(StreamFull):
            await publisher.append_event(address, event, first or 0, budget_s=5)
        writing = asyncio.create_task(publisher.append_event(address, event, first or 0))
        await asyncio.sleep(1)
        assert not writing.done()
        await c.api(f"STREAM.UPDATE.{topo.EVENT}", config)
        assert await writing == (first or 0) + 1
    server.stop()


async def test_accepting_without_a_server_fails_within_its_budget(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x", timeout_s=0.3) as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        server.kill()
        began = time.monotonic()
        with pytest.raises(StreamDown):
            await Publisher(c).accept(entry_of(an_address()), an_address(), "otp", ttl_s=None, budget_s=1)
        assert time.monotonic() - began < 8
        server.start()
        end = time.monotonic() + 40
        while not c.connected:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert isinstance(await accept(c, an_address()), Accepted)
    server.stop()


async def test_set_up_is_repeatable_and_refuses_changes_that_would_lose_data(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x") as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        assert {one.state for one in await setup.ensure(c, SETTINGS, PROVIDERS)} == {"as wanted"}
        longer = attrs.evolve(SETTINGS, gateway=GatewaySettings(window_s=2 * 86400))
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


async def test_old_server_is_refused(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topo, "MIN_API_LEVEL", 99)
    with pytest.raises(ServerTooOld, match="level 99"):
        await setup.ensure(connection, SETTINGS, PROVIDERS)


async def test_replicas_that_a_single_server_cannot_keep_are_refused_with_the_setting(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x") as c:
        with pytest.raises(TooFewServers, match="SMSGW_REPLICAS=1"):
            await setup.ensure(c, attrs.evolve(SETTINGS, servers=ServerSettings(replicas=3)), PROVIDERS)
    server.stop()


async def test_bucket_compares_and_sets_and_expires_its_keys(connection: Connection) -> None:
    bucket = Bucket(connection, topo.LIMITS_BUCKET)
    heard: list[tuple[str, object]] = []
    async with bucket.on_write("t.*", lambda key, document: heard.append((key, document))):
        first = await bucket.compare_and_set("t.a", {"n": 1}, 0)
        assert first is not None
        assert await bucket.compare_and_set("t.a", {"n": 2}, 0) is None
        assert await bucket.compare_and_set("t.a", {"n": 2}, first) is not None
        await bucket.put("t.b", {"n": 3}, ttl_s=2)
        assert {key: value for key, (_, value) in (await bucket.all("t.*")).items()} == {
            "t.a": {"n": 2},
            "t.b": {"n": 3},
        }
        end = time.monotonic() + 30
        while ("t.b", {"n": 3}) not in heard:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
    end = time.monotonic() + 30
    while (await bucket.get("t.b"))[1] is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    await bucket.delete("t.a")
    assert await bucket.all("t.*") == {}
