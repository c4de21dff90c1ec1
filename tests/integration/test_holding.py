"""Messages that a process holds for several times the ack wait are not redelivered."""

import asyncio
import pathlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import attrs
import pytest
import pytest_asyncio
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.projector import Projector
from dispatcher.duties.scheduler import Scheduler
from messaging import codec
from messaging.errors import StoreDown
from messaging.model import LATER, Lane
from messaging.runtime.config import FleetSettings
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.store.writer import Projected
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.ack_extender import extend_acks
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher
from ops.embedded import NatsServer
from tests.integration.streams import PROVIDERS, SETTINGS, accept, an_address, entry_of

ACK_WAIT_S = 2.0
LONG_S = 3 * ACK_WAIT_S


@pytest_asyncio.fixture(loop_scope="session")
async def connection(tmp_path: pathlib.Path) -> AsyncIterator[Connection]:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "test", timeout_s=0.5) as one:
        await setup.ensure(one, attrs.evolve(SETTINGS, fleet=FleetSettings(ack_wait_s=ACK_WAIT_S)), PROVIDERS)
        yield one
    server.stop()


async def deliveries(connection: Connection, stream: str, durable: str) -> tuple[int, int]:
    """The number of messages in the stream, and of deliveries to the consumer."""
    info = await connection.api(f"CONSUMER.INFO.{stream}.{durable}")
    state = await connection.api(f"STREAM.INFO.{stream}")
    return state["state"]["messages"], info["delivered"]["consumer_seq"]


async def block_repeatedly(seconds: float, *, for_s: float) -> None:
    """Let time pass while the event loop is blocked for `for_s` again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(for_s)
        await asyncio.sleep(0.05)


async def until_delivered(connection: Connection, stream: str, durable: str, count: int) -> None:
    end = time.monotonic() + 10
    while (await deliveries(connection, stream, durable))[1] < count:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("blocked_s", [0.0, 0.45 * ACK_WAIT_S])
async def test_held_messages_are_not_redelivered_in_any_lane(connection: Connection, blocked_s: float) -> None:
    held = []
    for lane in Lane:
        address = an_address()
        await Publisher(connection).enqueue(entry_of(address), address, "p1", lane)
        consumer = await connection.consumer(topo.SEND, topo.dispatch_consumer("p1", lane))
        held += await consumer.fetch(5, 2)
    assert len(held) == len(Lane)
    extender = asyncio.create_task(extend_acks(lambda: held, ACK_WAIT_S))
    await block_repeatedly(LONG_S, for_s=blocked_s)
    for lane in Lane:
        other = await connection.consumer(topo.SEND, topo.dispatch_consumer("p1", lane))
        assert await other.fetch(5, 0.3) == []
    extender.cancel()
    for delivery in held:
        assert await delivery.ack()


async def test_messages_of_a_pod_that_is_blocked_for_longer_are_redelivered(connection: Connection) -> None:
    address = an_address()
    await Publisher(connection).enqueue(entry_of(address), address, "p1", "otp")
    consumer = await connection.consumer(topo.SEND, topo.dispatch_consumer("p1", "otp"))
    held = await consumer.fetch(5, 2)
    extender = asyncio.create_task(extend_acks(lambda: held, ACK_WAIT_S))
    await asyncio.sleep(0)
    time.sleep(1.5 * ACK_WAIT_S)
    [again] = await consumer.fetch(5, ACK_WAIT_S)
    assert (again.sequence, again.delivered) == (held[0].sequence, 2)
    extender.cancel()
    assert await again.ack()


class StoppedStore:
    """A store that is down until `there` is set."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.written: list[Projected] = []

    async def write(self, batch: Sequence[Projected]) -> None:
        if not self.there.is_set():
            raise StoreDown("test")
        self.written += batch

    async def ensure_partitions(self, now: datetime, weeks_ahead: int = 5) -> object:
        return None

    async def ping(self) -> None:
        if not self.there.is_set():
            raise StoreDown("test")


async def test_batch_that_waits_for_the_store_is_projected_once(connection: Connection) -> None:
    store = StoppedStore()
    projector = Projector(connection, store, Tracer(None, ChosenIds(), 0.0), ACK_WAIT_S)
    for number in range(40):
        address = an_address()
        await accept(connection, address)
        await Publisher(connection).append_event(
            address, wire.Event(message_id=address.message_id, client="default", state=pb.MESSAGE_STATE_SENDING), 0
        )
        if number % 10 == 0:  # an unreadable one is held with the others
            await connection.publish(topo.event_subject(an_address()), b"\xff")
    running = asyncio.create_task(projector.run())
    await until_delivered(connection, topo.EVENT, topo.PROJECT_EVENT, 44)
    await asyncio.sleep(LONG_S)
    for stream, durable in ((topo.ACCEPT, topo.PROJECT_ACCEPT), (topo.EVENT, topo.PROJECT_EVENT)):
        assert await (await connection.consumer(stream, durable)).fetch(50, 0.3) == [], durable
    store.there.set()
    end = time.monotonic() + 10
    while len(store.written) < 80:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert await deliveries(connection, topo.ACCEPT, topo.PROJECT_ACCEPT) == (40, 40)
    assert await deliveries(connection, topo.EVENT, topo.PROJECT_EVENT) == (44, 44)
    running.cancel()
    await asyncio.wait({running})
    assert len(store.written) == 80


async def test_acceptance_that_cannot_be_scheduled_for_long_is_scheduled_once(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    there = asyncio.Event()

    async def slow(_: Publisher, entry: wire.QueueEntry, *_rest: object, **_named: object) -> None:
        calls.append(entry.command.message_id)
        await there.wait()

    monkeypatch.setattr(Publisher, "schedule", slow)
    running = asyncio.create_task(Scheduler(connection, ACK_WAIT_S).run())
    address = an_address()
    entry = entry_of(address)
    entry.command.schedule_time.CopyFrom(codec.timestamp(time.time() + 3600))
    await Publisher(connection).accept(entry, address, LATER, ttl_s=None, budget_s=5)
    await until_delivered(connection, topo.ACCEPT, topo.SCHEDULE_CONSUMER, 1)
    await asyncio.sleep(LONG_S)
    assert await (await connection.consumer(topo.ACCEPT, topo.SCHEDULE_CONSUMER)).fetch(5, 0.3) == []
    there.set()
    end = time.monotonic() + 10
    while (await connection.api(f"CONSUMER.INFO.{topo.ACCEPT}.{topo.SCHEDULE_CONSUMER}"))["ack_floor"][
        "stream_seq"
    ] < 1:
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    assert await deliveries(connection, topo.ACCEPT, topo.SCHEDULE_CONSUMER) == (1, 1)
    assert calls == [address.message_id]
    running.cancel()
    await asyncio.wait({running})
