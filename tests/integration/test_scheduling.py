"""Scheduling accepted messages and canceling their schedules, on a real server."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.scheduler import Scheduler
from gateway_grpc.lookup import Lookup, StoredMessages
from messaging import codec
from messaging.errors import StreamDown, StreamFull
from messaging.model import LATER, Address
from messaging.stream import topology as topo
from messaging.stream.connection import NatsConnection
from messaging.stream.interface import Connection, Record
from messaging.stream.publisher import Publisher
from tests.integration.streams import an_address, entry_of


@pytest.fixture
def lookup(connection: Connection) -> Lookup:
    return Lookup(connection, cast("StoredMessages", None), lambda client, request_id: request_id, "gateway")


@contextlib.asynccontextmanager
async def scheduling(connection: Connection) -> AsyncIterator[None]:
    """Run the scheduler until it has acknowledged every waiting acceptance; it must not end by itself."""
    running = asyncio.create_task(Scheduler(connection, 20.0).run())
    yield
    async with asyncio.timeout(20):
        while not running.done():
            info = await connection.api(f"CONSUMER.INFO.{topo.ACCEPT}.{topo.SCHEDULE_CONSUMER}")
            if not info["num_pending"] and not info["num_ack_pending"]:
                break
            await asyncio.sleep(0.05)
    assert not running.done(), running.exception()
    running.cancel()
    await asyncio.wait({running})


async def accept_for_later(connection: Connection) -> Address:
    address = an_address()
    entry = entry_of(address)
    entry.command.accept_time.CopyFrom(codec.timestamp(time.time()))
    entry.command.schedule_time.CopyFrom(codec.timestamp(time.time() + 3600))
    await Publisher(connection).accept(entry, address, LATER, ttl_s=None, budget_s=5)
    return address


async def scheduled(connection: Connection, address: Address) -> Record | None:
    return await connection.last(topo.LATER_STREAM, topo.later_subject(address))


async def test_message_canceled_while_it_is_scheduled_leaves_no_schedule(
    connection: Connection, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = Publisher.schedule
    canceled: list[int] = []

    async def after_cancel(
        one: Publisher, entry: wire.QueueEntry, address: Address, *rest: Any, **options: Any
    ) -> None:
        canceled.append((await lookup.cancel("default", message_id=address.message_id)).state)
        await schedule(one, entry, address, *rest, **options)
        assert await scheduled(connection, address) is not None

    monkeypatch.setattr(Publisher, "schedule", after_cancel)
    address = await accept_for_later(connection)
    async with scheduling(connection):
        pass
    assert canceled == [pb.MESSAGE_STATE_CANCELED]
    assert await scheduled(connection, address) is None


async def test_schedule_that_could_not_be_removed_at_first_is_removed_later(
    connection: Connection, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same scheduler does it or, after a crash, the next one: the acceptance is redelivered."""
    schedule, last = Publisher.schedule, NatsConnection.last
    refused: list[str] = []

    async def after_cancel(
        one: Publisher, entry: wire.QueueEntry, address: Address, *rest: Any, **options: Any
    ) -> None:
        await lookup.cancel("default", message_id=address.message_id)
        await schedule(one, entry, address, *rest, **options)

    async def fail_once(one: NatsConnection, stream: str, subject: str) -> Record | None:
        if stream == topo.LATER_STREAM and subject not in refused and await last(one, stream, subject) is not None:
            refused.append(subject)
            raise StreamDown("test")
        return await last(one, stream, subject)

    monkeypatch.setattr(Publisher, "schedule", after_cancel)
    monkeypatch.setattr(NatsConnection, "last", fail_once)
    address = await accept_for_later(connection)
    async with scheduling(connection):
        pass
    assert refused == [topo.later_subject(address)]
    assert await scheduled(connection, address) is None


async def test_full_stream_does_not_end_the_scheduler(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Publisher.schedule
    refused: list[Address] = []

    async def full_once(one: Publisher, entry: wire.QueueEntry, address: Address, *rest: Any, **options: Any) -> None:
        if not refused:
            refused.append(address)
            raise StreamFull(topo.LATER_STREAM)
        await schedule(one, entry, address, *rest, **options)

    monkeypatch.setattr(Publisher, "schedule", full_once)
    address = await accept_for_later(connection)
    async with scheduling(connection):
        pass
    assert refused == [address]
    assert await scheduled(connection, address) is not None


async def test_cancel_removes_the_schedule_as_soon_as_the_stream_answers(
    connection: Connection, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    unschedule = Publisher.unschedule
    failures = iter([True, True, True])

    async def later(one: Publisher, address: Address) -> None:
        if next(failures, False):
            raise StreamDown("test")
        await unschedule(one, address)

    monkeypatch.setattr(Publisher, "unschedule", later)
    address = await accept_for_later(connection)
    async with scheduling(connection):
        pass
    status = await lookup.cancel("default", message_id=address.message_id)
    assert status.state == pb.MESSAGE_STATE_CANCELED
    assert await scheduled(connection, address) is None


async def test_cancel_that_could_not_remove_the_schedule_fails_and_the_next_one_completes_it(
    connection: Connection, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Publisher, _address: Address) -> None:
        raise StreamDown("test")

    address = await accept_for_later(connection)
    async with scheduling(connection):
        pass
    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "unschedule", away)
        patched.setattr("gateway_grpc.lookup._CANCEL_BUDGET_S", 0.5)
        with pytest.raises(StreamDown):
            await lookup.cancel("default", message_id=address.message_id)
    assert await scheduled(connection, address) is not None
    status = await lookup.cancel("default", message_id=address.message_id)
    assert status.state == pb.MESSAGE_STATE_CANCELED
    assert await scheduled(connection, address) is None


async def test_schedule_is_found_by_its_key_until_it_fires_and_after_that(connection: Connection) -> None:
    address = an_address()
    entry = entry_of(address)
    waiting, fired = topo.later_key_filters(address.client, address.key)
    await Publisher(connection).schedule(entry, address, "p1", "normal", time.time() + 1.5, kept_s=300_000)
    record = await connection.last(topo.LATER_STREAM, waiting)
    assert record is not None
    assert record.subject == topo.later_subject(address)
    assert await connection.last(topo.LATER_STREAM, fired) is None
    async with asyncio.timeout(10):
        while (record := await connection.last(topo.LATER_STREAM, fired)) is None:
            await asyncio.sleep(0.05)
    assert record.headers[topo.H_TTL] == "300000s"
    assert record.data == entry.SerializeToString()
    assert await connection.last(topo.LATER_STREAM, waiting) is None
