"""The projector does not wait for most acknowledgements: what happens to the history when one is lost."""

import asyncio
import pathlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import attrs
import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatcher.duties.projector import Projector, Writer
from messaging import codec
from messaging.model import Address
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.store.tables import attempts, events, messages
from messaging.store.writer import HistoryWriter, Projected
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.connection import NatsConnection, open_connection
from messaging.stream.publisher import Publisher
from ops.embedded import NatsServer
from tests.integration.streams import PROVIDERS, SETTINGS, accept, an_address

COUNT = 60
ACK_WAIT_S = 2.0
QUICK = attrs.evolve(SETTINGS, fleet=attrs.evolve(SETTINGS.fleet, ack_wait_s=ACK_WAIT_S))


class CountingWriter:
    """A writer that counts the records it was given, and may hang right before or right after a commit."""

    def __init__(self, history: HistoryWriter, dies: str = "") -> None:
        self.given = 0
        self.died = asyncio.Semaphore(0)  # once for each of the two streams
        self._history = history
        self._dies = dies

    async def write(self, batch: Sequence[Projected]) -> None:
        self.given += len(batch)
        if self._dies == "before":
            await self._die()
        await self._history.write(batch)
        if self._dies == "after":
            await self._die()

    async def _die(self) -> None:
        self.died.release()
        await asyncio.Event().wait()

    async def ensure_partitions(self, now, weeks_ahead: int = 5) -> object:
        return await self._history.ensure_partitions(now, weeks_ahead)


@pytest.fixture
async def stream(tmp_path: pathlib.Path) -> AsyncIterator[NatsConnection]:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "test") as connection:
        await setup.ensure(connection, QUICK, PROVIDERS)
        yield connection
    server.stop()


async def fill(connection: NatsConnection) -> list[Address]:
    """Accept messages and write two events for each."""
    addresses = [an_address() for _ in range(COUNT)]
    publisher = Publisher(connection)
    for address in addresses:
        await accept(connection, address)
        now = codec.timestamp(time.time())
        attempt = pb.Attempt(number=1, provider="p1", start_time=now)
        begun = wire.Event(
            message_id=address.message_id,
            client="default",
            state=pb.MESSAGE_STATE_SENDING,
            time=now,
            attempts=[attempt],
            attempt_count=1,
        )
        sequence = await publisher.append_event(address, begun, 0)
        done = wire.Event()
        done.CopyFrom(begun)
        done.state = pb.MESSAGE_STATE_SENT
        assert await publisher.append_event(address, done, sequence or 0)
    return addresses


@pytest.fixture(autouse=True)
async def partitions(engine: AsyncEngine) -> None:
    """Create the partitions first: a new one moves rows out of the default partition while a test counts them."""
    await HistoryWriter(engine).ensure_partitions(datetime.now(UTC))


def projecting(connection: NatsConnection, engine: AsyncEngine, writer: Writer) -> "asyncio.Task[None]":
    projector = Projector(connection, writer, Tracer(None, ChosenIds(), 0.0), ACK_WAIT_S)
    return asyncio.create_task(projector.run())


async def unacknowledged(connection: NatsConnection) -> int:
    """Count the records that the projector has not acknowledged."""
    context = connection.client.jetstream()
    infos = [
        await context.consumer_info(stream, durable)
        for stream, durable in ((topo.ACCEPT, topo.PROJECT_ACCEPT), (topo.EVENT, topo.PROJECT_EVENT))
    ]
    return sum((info.num_pending or 0) + (info.num_ack_pending or 0) for info in infos)


async def until_projected(connection: NatsConnection, writer: CountingWriter, given: int) -> None:
    """Wait until the writer was given `given` records and all are acknowledged."""
    end_at = time.monotonic() + 20
    while writer.given < given or await unacknowledged(connection):
        assert time.monotonic() < end_at, f"{writer.given} of {given} records were given"
        await asyncio.sleep(0.02)


async def forget_acknowledgements(connection: NatsConnection) -> None:
    """Recreate the consumers, as if a killed server had forgotten every delivery and acknowledgement."""
    context = connection.client.jetstream()
    for stream, durable in ((topo.ACCEPT, topo.PROJECT_ACCEPT), (topo.EVENT, topo.PROJECT_EVENT)):
        config = (await context.consumer_info(stream, durable)).config
        await context.delete_consumer(stream, durable)
        await context.add_consumer(stream, config)


async def rows(engine: AsyncEngine) -> list[int]:
    """Count the messages that were sent, their attempts and their events."""
    sent = select(func.count()).select_from(messages).where(messages.c.state == pb.MESSAGE_STATE_SENT)
    whole = [select(func.count()).select_from(table) for table in (attempts, events)]
    async with engine.connect() as connection:
        return [(await connection.execute(query)).scalar_one() for query in (sent, *whole)]


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=5)


async def test_records_redelivered_after_lost_acknowledgements_are_in_the_history_once(
    stream: NatsConnection, engine: AsyncEngine
) -> None:
    await fill(stream)
    writer = CountingWriter(HistoryWriter(engine))
    task = projecting(stream, engine, writer)
    await until_projected(stream, writer, 3 * COUNT)
    assert await rows(engine) == [COUNT, COUNT, 2 * COUNT]
    await forget_acknowledgements(stream)
    await until_projected(stream, writer, 2 * 3 * COUNT)
    assert await rows(engine) == [COUNT, COUNT, 2 * COUNT]
    await end(task)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_projector_that_dies_around_its_commit_has_acknowledged_nothing_and_loses_nothing(
    stream: NatsConnection, engine: AsyncEngine, moment: str
) -> None:
    await fill(stream)
    dying = CountingWriter(HistoryWriter(engine), dies=moment)
    task = projecting(stream, engine, dying)
    async with asyncio.timeout(10):
        for _stream in (topo.ACCEPT, topo.EVENT):
            await dying.died.acquire()
    await end(task)
    assert await unacknowledged(stream) == 3 * COUNT, "no record is acknowledged before its batch is stored"
    writer = CountingWriter(HistoryWriter(engine))
    task = projecting(stream, engine, writer)
    await until_projected(stream, writer, 3 * COUNT)
    assert await rows(engine) == [COUNT, COUNT, 2 * COUNT]
    await end(task)


async def test_batch_blocked_by_a_lock_is_written_when_the_lock_is_released(
    stream: NatsConnection, engine: AsyncEngine
) -> None:
    await fill(stream)
    writer = CountingWriter(HistoryWriter(engine.execution_options(messaging_timeout_s=0.3)))
    async with engine.begin() as lock:
        await lock.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
        task = projecting(stream, engine, writer)
        await asyncio.sleep(2 * ACK_WAIT_S)
    await until_projected(stream, writer, 3 * COUNT)
    assert await rows(engine) == [COUNT, COUNT, 2 * COUNT]
    await end(task)
