"""This version reads what an older version has stored like its own data."""

import asyncio
import json
from datetime import UTC, timedelta
from typing import Any

import pytest
from alembic import command as alembic
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from messaging.store import migrate
from messaging.store.engine import open_engine, transaction
from messaging.store.reader import HistoryReader
from ops.embedded import Postgres
from tests.integration.records import NOW, command, new_id

# The columns that revision 0001 kept of a command, beside first_provider.
COLUMNS = (
    *("message_id", "client", "request_id", "client_reference", "recipient", "sender", "body", "priority", "encoding"),
    *("segments", "providers", "route_reason", "accept_time", "schedule_time", "deadline", "labels", "callback_url"),
    *("fingerprint", "traceparent"),
)
SCHEDULED: dict[str, Any] = {"schedule_time": NOW + timedelta(hours=1)}
_TEXTS = ("request_id", "sender", "client_reference", "callback_url", "route_reason", "traceparent")
BARE: dict[str, Any] = {**dict.fromkeys(_TEXTS, ""), "labels": {}, "providers": [], "fingerprint": b"", "priority": 0}
AWKWARD: dict[str, Any] = {"body": "é € 👋 '\\\\x00", "labels": {"a": '"}', "b": ""}, "providers": ["a,b", "{c}"]}


def _to_0001(connection: Connection) -> None:
    config = migrate._config()
    config.attributes["connection"] = connection
    alembic.upgrade(config, "0001")


@pytest.fixture
async def old(postgres: Postgres, request: pytest.FixtureRequest) -> Any:
    """A database at revision 0001."""
    url = await postgres.create_database(f"old_{abs(hash(request.node.name))}")
    await migrate._in_transaction(url, _to_0001, 60)
    engine = open_engine(url)
    yield url, engine
    await engine.dispose()


async def store(engine: AsyncEngine, one: wire.Command, *, accepted: bool = True) -> None:
    """Write a row as the version before this revision did."""
    values: dict[str, Any] = {}
    for name in COLUMNS:
        value = getattr(one, name)
        if name in {"accept_time", "schedule_time", "deadline"}:
            values[name] = value.ToDatetime(tzinfo=UTC) if one.HasField(name) else None  # type: ignore[arg-type]
        elif name == "labels":
            values[name] = json.dumps(dict(value))
        elif name == "providers":
            values[name] = list(value)
        else:
            values[name] = value or (None if isinstance(value, str | bytes) else value)
    if not accepted:
        values = {name: value if name in {"message_id", "client"} else None for name, value in values.items()}
    names = ", ".join(values)
    given = ", ".join(f"cast(:{name} as jsonb)" if name == "labels" else f":{name}" for name in values)
    async with transaction(engine, "store") as connection:
        await connection.execute(
            text(
                f"insert into messages ({names}, first_provider, accept_sequence, state, version, attempt_count)"  # noqa: S608
                f" values ({given}, :first, :sequence, 5, 7, 1)"
            ),
            {**values, "first": one.provider or None, "sequence": 3 if accepted else None},
        )


@pytest.mark.parametrize("fields", [{}, SCHEDULED, BARE, AWKWARD], ids=["usual", "scheduled", "bare", "awkward"])
async def test_stored_message_is_kept_whole_by_the_migration(old: tuple[str, AsyncEngine], fields: dict[str, Any]):
    url, engine = old
    one = command(new_id(), **fields)
    await store(engine, one)
    await asyncio.to_thread(migrate.upgrade, url)
    reader = HistoryReader(engine)
    assert await reader.command("default", one.message_id) == one
    status = await reader.find("default", one.message_id)
    assert status is not None
    assert (status.state, status.recipient, status.segments) == (pb.MESSAGE_STATE_SENT, one.recipient, one.segments)
    assert status.labels == one.labels


@pytest.mark.parametrize("fields", [{}, SCHEDULED, BARE, AWKWARD], ids=["usual", "scheduled", "bare", "awkward"])
async def test_older_version_finds_its_columns_after_a_downgrade(old: tuple[str, AsyncEngine], fields: dict[str, Any]):
    url, engine = old
    one = command(new_id(), **fields)
    await store(engine, one)
    query = text(f"select {', '.join(COLUMNS)}, trace_id, first_provider, state, version from messages")  # noqa: S608
    async with transaction(engine, "read") as connection:
        before = (await connection.execute(query)).all()
    await asyncio.to_thread(migrate.upgrade, url)
    await asyncio.to_thread(migrate.downgrade, url, "0001")
    async with transaction(engine, "read") as connection:
        after = (await connection.execute(query)).all()
    trace = one.traceparent.split("-")[1] if one.traceparent else None
    assert tuple(before[0])[: len(COLUMNS)] == tuple(after[0])[: len(COLUMNS)]
    assert tuple(before[0])[-3:] == tuple(after[0])[-3:]
    assert after[0].trace_id == trace
    await asyncio.to_thread(migrate.upgrade, url)
    assert await HistoryReader(engine).command("default", one.message_id) == one


@pytest.mark.parametrize("revision", ["0003", "nonsense", ""])
async def test_downgrade_to_an_unknown_revision_is_refused_by_name(old: tuple[str, AsyncEngine], revision: str):
    url, _ = old
    with pytest.raises(ValueError, match="there are 0001, 0002"):
        await asyncio.to_thread(migrate.downgrade, url, revision)
    assert await asyncio.to_thread(migrate.current, url) == "0001"


async def test_row_whose_acceptance_is_not_projected_stays_without_a_command(old: tuple[str, AsyncEngine]):
    url, engine = old
    one = command(new_id())
    await store(engine, one, accepted=False)
    await asyncio.to_thread(migrate.upgrade, url)
    assert await HistoryReader(engine).command("default", one.message_id) is None
    status = await HistoryReader(engine).find("default", one.message_id)
    assert status is not None
    assert status.state == pb.MESSAGE_STATE_SENT


async def test_more_messages_than_one_batch_are_all_migrated(old: tuple[str, AsyncEngine]):
    url, engine = old
    async with transaction(engine, "store") as connection:
        await connection.execute(
            text(
                "insert into messages (message_id, client, body, accept_sequence, state, version, attempt_count)"
                " select lpad(to_hex(n), 32, '0')::uuid, 'default', 'Text ' || n, n, 5, n, 1"
                " from generate_series(1, 12000) as n"
            )
        )
    await asyncio.to_thread(migrate.upgrade, url)
    async with transaction(engine, "read") as connection:
        rows = (await connection.execute(text("select message_id, command from messages"))).all()
    kept = {str(row.message_id): wire.Command.FromString(row.command) for row in rows}
    assert len(kept) == 12000
    assert all(one.message_id == name and one.body == f"Text {int(name[-12:], 16)}" for name, one in kept.items())
