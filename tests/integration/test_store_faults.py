"""What callers see while PostgreSQL is stopped, frozen or killed; no error contains private data."""

import asyncio
import os
import pathlib
import signal
import traceback
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from messaging.errors import StoreDown, StoreRefuses
from messaging.store import migrate
from messaging.store.engine import open_engine, reading, transaction
from messaging.store.reader import HistoryReader
from messaging.store.writer import HistoryWriter
from ops.embedded import Postgres
from tests.integration.records import BODY, RECIPIENT, a_long_story, accepted, event, new_id


@pytest_asyncio.fixture(scope="module")
async def server(open_folder: pathlib.Path) -> AsyncIterator[Postgres]:
    """A separate durable server that a test may stop and kill."""
    server = Postgres(open_folder / "victim")
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(migrate.upgrade, server.url)
    yield server
    await asyncio.to_thread(server.stop)


@pytest_asyncio.fixture
async def victim(server: Postgres) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(server.start)
    engine = open_engine(server.url, timeout_s=5.0)
    yield engine
    await engine.dispose()


async def test_stopped_server_is_store_down_until_its_restart(server: Postgres, victim: AsyncEngine):
    message_id = new_id()
    story = a_long_story(message_id)
    await HistoryWriter(victim).write(story[:2])
    await asyncio.to_thread(server.stop)
    reader = HistoryReader(victim)
    calls = (
        HistoryWriter(victim).write(story),
        HistoryWriter(victim).ensure_partitions(accepted(message_id).entry.command.accept_time.ToDatetime()),  # type: ignore[union-attr]
        reader.ping(),
        reader.find("default", message_id),
        reader.events(None, message_id),
    )
    for call in calls:
        with pytest.raises(StoreDown):
            await call
    await asyncio.to_thread(server.start)
    await HistoryWriter(victim).write(story)
    found = await reader.find("default", message_id)
    assert found is not None
    assert found.final


async def test_restart_between_two_calls_causes_no_error(server: Postgres, victim: AsyncEngine):
    await HistoryReader(victim).ping()
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await HistoryReader(victim).ping()


async def test_killed_server_keeps_whole_batches_only(server: Postgres, victim: AsyncEngine):
    written: list[str] = []
    tried: list[str] = []
    halfway = asyncio.Event()

    async def write() -> None:
        while True:
            message_id = new_id()
            tried.append(message_id)
            try:
                await HistoryWriter(victim).write(a_long_story(message_id))
            except StoreDown:
                return
            written.append(message_id)
            if len(written) > 20:
                halfway.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(write())
        await halfway.wait()
        await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    reader = HistoryReader(victim)
    for message_id in tried:
        events = await reader.events("default", message_id)
        found = await reader.find("default", message_id)
        assert len(events) in ({5} if message_id in written else {0, 5})
        assert (found is not None and len(found.attempts) == 2) == bool(events)


async def test_server_that_does_not_answer_is_store_down_in_time(server: Postgres, victim: AsyncEngine):
    impatient = open_engine(server.url, pool_size=1, timeout_s=0.3)
    async with reading(impatient, "ask") as connection:
        backend = await connection.scalar(text("select pg_backend_pid()"))
    os.kill(backend, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(StoreDown, match="ping"):
                await HistoryReader(impatient).ping()
            await HistoryReader(impatient).ping()
    finally:
        os.kill(backend, signal.SIGCONT)
        await impatient.dispose()


async def test_frozen_server_is_store_down_in_time(server: Postgres, victim: AsyncEngine):
    impatient = open_engine(server.url, pool_size=1, timeout_s=0.3)
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(StoreDown):
                await HistoryReader(impatient).ping()
    finally:
        os.kill(server.pid, signal.SIGCONT)
        await impatient.dispose()


async def test_time_out_covers_the_whole_call(engine: AsyncEngine):
    async def many_short_steps() -> None:
        impatient = engine.execution_options(messaging_timeout_s=0.3)
        async with transaction(impatient, "count") as connection:
            for _ in range(100):
                await connection.execute(text("select pg_sleep(0.1)"))

    async with asyncio.timeout(20):
        with pytest.raises(StoreDown, match="count"):
            await many_short_steps()


async def test_error_that_sqlalchemy_does_not_wrap_is_store_down_too(engine: AsyncEngine):
    async def fail() -> None:
        async with transaction(engine, "prepare"):
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    with pytest.raises(StoreDown, match="prepare"):
        await fail()


async def test_wait_for_a_free_connection_has_a_time_out(server: Postgres, victim: AsyncEngine):
    small = open_engine(server.url, pool_size=1, timeout_s=0.3)
    async with small.connect():
        with pytest.raises(StoreDown):
            await HistoryReader(small).ping()
    await HistoryReader(small).ping()
    await small.dispose()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("alter table messages rename to mislaid", 'UndefinedTableError 42P01: relation "messages" does not exist'),
        ("alter table messages add check (attempt_count > 1)", "CheckViolationError 23514"),
        ("alter table messages alter recipient type varchar(5)", "StringDataRightTruncationError 22001"),
    ],
)
async def test_no_error_contains_a_number_or_a_text(engine: AsyncEngine, change: str, told: str):
    async with transaction(engine, "break") as connection:
        await connection.execute(text(change))
    with pytest.raises(StoreDown) as caught:
        await HistoryWriter(engine).write([accepted(new_id())])
    printed = "".join(traceback.format_exception(caught.value))
    assert told in printed
    for private in (RECIPIENT, RECIPIENT[1:], BODY):
        assert private not in printed


async def test_no_error_of_the_driver_contains_a_value(engine: AsyncEngine):
    with pytest.raises(StoreDown) as caught:
        await HistoryWriter(engine).write([event(new_id(), pb.MESSAGE_STATE_SENT, attempt_count=2**31 + 4711)])
    printed = "".join(traceback.format_exception(caught.value))
    assert "DriverFault: DataError" in printed
    assert str(2**31 + 4711) not in printed


async def test_missing_database_is_store_down(postgres: Postgres):
    lost = open_engine(postgres.url_of("nowhere"))
    with pytest.raises(StoreDown):
        await HistoryReader(lost).ping()
    await lost.dispose()


async def test_callers_own_error_passes_and_rolls_back(engine: AsyncEngine):
    async def fail() -> None:
        async with transaction(engine, "try") as connection:
            await connection.execute(text("create table scrap (x int)"))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    async with reading(engine, "look") as connection:
        assert await connection.scalar(text("select to_regclass('scrap')")) is None


async def test_callers_cancellation_stays_a_cancellation(engine: AsyncEngine):
    async def wait() -> None:
        async with reading(engine, "sleep") as connection:
            await connection.execute(text("select pg_sleep(60)"))

    task = asyncio.create_task(wait())
    async with asyncio.timeout(30):
        while not (engine.pool.checkedout()):  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d", "postgresql+asyncpg://u@h/d"])
def test_every_form_of_the_database_url_is_understood(url: str):
    assert open_engine(url).url.drivername == "postgresql+asyncpg"


def test_url_of_another_database_is_refused_without_quoting_it():
    with pytest.raises(ValueError, match="postgresql://") as caught:
        open_engine("mysql://root:secret@h/d")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("code", "refused"), [("22003", True), ("23514", True), ("54000", True), ("40P01", False)])
async def test_only_data_is_refused_for_good(engine: AsyncEngine, code: str, *, refused: bool) -> None:
    """Only data that can never be written is refused; a deadlock (40P01) is temporary."""
    with pytest.raises(StoreDown) as caught:
        async with transaction(engine, "write") as connection:
            await connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"))
    assert isinstance(caught.value, StoreRefuses) is refused
