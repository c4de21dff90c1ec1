"""The schema: created once by any number of processes, partitioned by week, and never scanned as a whole."""

import asyncio
import itertools
import json
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sms.gateway.v1 import gateway_pb2
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from messaging.errors import StoreDown
from messaging.store import migrate
from messaging.store.engine import open_engine, reading
from messaging.store.reader import HistoryReader
from messaging.store.retention import lowest_id
from messaging.store.tables import metadata
from messaging.store.writer import HistoryWriter
from ops.embedded import Postgres
from tests.integration import records
from tests.integration.records import NOW, a_long_story, accepted, new_id

_WEEK = timedelta(days=7)
_names = (f"schema_{number}" for number in itertools.count())


async def counts(engine: AsyncEngine, table: str) -> dict[str, int]:
    """The number of rows in each partition."""
    query = f"select tableoid::regclass::text, count(*) from {table} group by 1"  # noqa: S608
    async with engine.connect() as connection:
        return {name: count for name, count in await connection.execute(text(query))}  # noqa: C416


async def test_upgrade_of_an_empty_database_and_a_second_one_end_at_the_head(postgres: Postgres):
    url = await postgres.create_database(next(_names))
    assert await asyncio.to_thread(migrate.current, url) is None
    for _ in range(2):
        await asyncio.to_thread(migrate.upgrade, url)
        assert await asyncio.to_thread(migrate.current, url) == migrate.head()


async def test_two_processes_and_two_threads_may_upgrade_at_once(postgres: Postgres):
    url = await postgres.create_database(next(_names))
    code = f"from messaging.store import migrate; migrate.upgrade({url!r})"
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", code) for _ in range(2)]
    await asyncio.gather(*(asyncio.to_thread(migrate.upgrade, url) for _ in range(2)))
    assert [await process.wait() for process in processes] == [0, 0]
    assert await asyncio.to_thread(migrate.current, url) == migrate.head()


async def test_migrations_create_the_tables_as_declared(engine: AsyncEngine):
    def differences(connection: Connection) -> list[Any]:
        def ours(name: str | None, kind: str, _parents: Any) -> bool:
            return kind != "table" or name in metadata.tables

        context = MigrationContext.configure(
            connection, opts={"include_name": ours, "compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_every_row_is_in_the_week_of_its_acceptance(engine: AsyncEngine):
    history = HistoryWriter(engine)
    assert len(await history.ensure_partitions(NOW, weeks_ahead=1)) == 9
    monday = NOW.replace(hour=0) - timedelta(days=2)
    times = [monday - timedelta(milliseconds=1), monday, monday + _WEEK - timedelta(milliseconds=1), monday + _WEEK]
    far = NOW + 9 * _WEEK
    for at in (*times, far):
        await history.write(a_long_story(new_id(at)))
    for table, rows in (("messages", 1), ("attempts", 2), ("events", 5)):
        assert await counts(engine, table) == {
            f"{table}_w20261109": rows,
            f"{table}_w20261116": 2 * rows,
            f"{table}_w20261123": rows,
            f"{table}_default": rows,
        }


async def test_partitions_are_created_once_even_by_two_processes_at_a_time(engine: AsyncEngine):
    history = HistoryWriter(engine)
    made = await asyncio.gather(history.ensure_partitions(NOW), history.ensure_partitions(NOW))
    assert len(made[0] + made[1]) == len(set(made[0] + made[1])) == 21
    assert await history.ensure_partitions(NOW) == []
    assert len(await history.ensure_partitions(NOW + _WEEK)) == 3


async def test_rows_in_the_default_partition_move_to_a_partition_created_late(engine: AsyncEngine):
    history = HistoryWriter(engine)
    message_id, far = new_id(), new_id(NOW + 20 * _WEEK)
    await history.write([*a_long_story(message_id), *a_long_story(far)])
    before = await HistoryReader(engine).find("default", message_id)
    await history.ensure_partitions(NOW)
    for table, rows in (("messages", 1), ("attempts", 2), ("events", 5)):
        assert await counts(engine, table) == {f"{table}_w20261116": rows, f"{table}_default": rows}
    assert await HistoryReader(engine).find("default", message_id) == before
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError, match="append-only"):
            await connection.execute(text("delete from events_default"))


async def test_writers_continue_while_partitions_are_created(engine: AsyncEngine):
    history = HistoryWriter(engine)
    done = asyncio.Event()

    async def write() -> int:
        written = 0
        while not done.is_set() or written < 5:
            story = a_long_story(new_id())
            while True:
                try:
                    await history.write(story)
                    break
                except StoreDown:  # its week has just left the default partition: the projector repeats the batch
                    continue
            written += 1
        return written

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(write()) for _ in range(3)]
        await history.ensure_partitions(NOW)
        done.set()
    total = sum(writer.result() for writer in writers)
    assert sum((await counts(engine, "messages")).values()) == total
    assert "messages_default" not in await counts(engine, "messages")


@pytest.mark.parametrize("change", ["update events set state = 5", "delete from events"])
async def test_events_are_append_only(engine: AsyncEngine, change: str):
    await HistoryWriter(engine).ensure_partitions(NOW, weeks_ahead=0)
    await HistoryWriter(engine).write(a_long_story(new_id()))
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError, match="append-only"):
            await connection.execute(text(change))
        await connection.rollback()
        with pytest.raises(DBAPIError, match="append-only"):
            await connection.execute(text(change.replace("events", "events_w20261116")))
        await connection.rollback()
    assert await counts(engine, "events") == {"events_w20261116": 5}


async def test_whole_week_can_still_be_dropped(engine: AsyncEngine):
    await HistoryWriter(engine).ensure_partitions(NOW, weeks_ahead=0)
    await HistoryWriter(engine).write(a_long_story(new_id()))
    async with engine.begin() as connection:
        for table in ("messages", "attempts", "events"):
            await connection.execute(text(f"drop table {table}_w20261116"))
    assert await counts(engine, "events") == {}


def test_bounds_are_the_ids_of_a_millisecond():
    assert lowest_id(NOW) <= uuid.UUID(new_id(NOW)) < lowest_id(NOW + timedelta(milliseconds=1))
    assert lowest_id(NOW + timedelta(microseconds=999)) == lowest_id(NOW)
    assert lowest_id(datetime(1969, 1, 1, tzinfo=UTC)).int == 0


@pytest_asyncio.fixture(scope="module")
async def full(postgres: Postgres, database_template: str) -> AsyncIterator[AsyncEngine]:
    """Four weeks with 800 messages each, and statistics."""
    engine = open_engine(await postgres.create_database(next(_names), database_template))
    history = HistoryWriter(engine)
    await history.ensure_partitions(NOW, weeks_ahead=2)
    for week in range(-1, 3):
        ids = [new_id(NOW + week * _WEEK + timedelta(seconds=number)) for number in range(800)]
        batch = [accepted(message_id, request_id=f"r-{message_id}") for message_id in ids]
        states = [records.event(message_id, 4, attempts=[records.attempt(1)]) for message_id in ids]
        await history.write([*batch, *states])
    async with engine.begin() as connection:
        await connection.execute(text("analyze"))
    yield engine
    await engine.dispose()


def literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


async def plans(engine: AsyncEngine, read: Any) -> list[dict[str, Any]]:
    """Return every scan in the plans of the statements of `read`, planned as in the engine's sessions."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    await read
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    assert statements
    scans: list[dict[str, Any]] = []

    def walk(node: dict[str, Any]) -> None:
        if "Relation Name" in node:
            scans.append(node)
        for inner in node.get("Plans", []):
            walk(inner)

    connection = await asyncpg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    async with reading(engine, "look") as session:
        mode = await session.scalar(text("show plan_cache_mode"))
    for statement, parameters in statements:
        await connection.execute(f"set plan_cache_mode = {mode}; prepare q as {statement}")
        for _ in range(6 if mode == "auto" else 0):  # only then PostgreSQL considers a generic plan
            await connection.execute(f"execute q({', '.join(map(literal, parameters))})")
        values = ", ".join(map(literal, parameters))
        plan = await connection.fetchval(f"explain (format json) execute q({values})")
        walk(json.loads(plan)[0]["Plan"])
        await connection.execute("deallocate q")
    await connection.close()
    return scans


def assert_no_week_is_scanned_whole(scans: list[dict[str, Any]]) -> None:
    whole = [
        scan["Relation Name"] for scan in scans if scan["Node Type"] == "Seq Scan" and "_w2026" in scan["Relation Name"]
    ]
    assert whole == []


async def test_message_is_found_by_one_index_of_one_week(full: AsyncEngine):
    message_id = (await HistoryReader(full).list_page("default", gateway_pb2.ListMessagesRequest(), None, 1))[
        0
    ].message_id
    scans = await plans(full, HistoryReader(full).find("default", message_id))
    assert_no_week_is_scanned_whole(scans)
    touched = {scan["Relation Name"] for scan in scans}
    assert touched == {"messages_w20261130", "attempts_w20261130"}


async def test_request_id_is_found_by_indexes_alone(full: AsyncEngine):
    newest = (await HistoryReader(full).list_page("default", gateway_pb2.ListMessagesRequest(), None, 1))[0]
    scans = await plans(full, HistoryReader(full).find_by_request_id("default", newest.request_id))
    assert_no_week_is_scanned_whole(scans)
    assert {scan["Index Name"] for scan in scans if scan["Relation Name"] == "messages_w20261130"} == {
        "messages_w20261130_client_request_id_message_id_idx"
    }


async def test_page_is_read_from_indexes_in_order_and_time_skips_weeks(full: AsyncEngine):
    wanted = gateway_pb2.ListMessagesRequest()
    wanted.start_time.FromDatetime(NOW)
    wanted.end_time.FromDatetime(NOW + timedelta(days=2))
    scans = await plans(full, HistoryReader(full).list_page("default", wanted, None, 50))
    assert_no_week_is_scanned_whole(scans)
    assert {scan["Relation Name"] for scan in scans} == {
        "messages_w20261116",
        "attempts_w20261116",
    }
    assert_no_week_is_scanned_whole(
        await plans(full, HistoryReader(full).list_page("default", gateway_pb2.ListMessagesRequest(), None, 50))
    )


@pytest.mark.parametrize(
    "rare",
    [
        {"recipient": "+15005550006"},
        {"client_reference": "none-such"},
        {"provider": "mnotify"},
        {"states": [pb.MESSAGE_STATE_FAILED]},
    ],
)
async def test_rare_value_is_found_through_its_own_index(full: AsyncEngine, rare: dict[str, Any]):
    page = HistoryReader(full).list_page("default", gateway_pb2.ListMessagesRequest(**rare), None, 50)
    scans = await plans(full, page)
    assert_no_week_is_scanned_whole(scans)
    column = "state" if "states" in rare else next(iter(rare))
    used = {scan["Index Name"] for scan in scans if "_w2026" in scan["Relation Name"]}
    assert used == {f"messages_w2026{day}_client_{column}_message_id_idx" for day in ("1109", "1116", "1123", "1130")}
