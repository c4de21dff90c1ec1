"""The store reads the rows of a benchmark like rows of the projector."""

import time

import pytest
from sms.gateway.v1 import gateway_pb2
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench import stored_rows
from messaging.store.reader import HistoryReader

FIRST_MS = int(time.time() * 1000) - 3_600_000


@pytest.mark.parametrize("batch", [7, 20_000])
async def test_generated_rows_are_read_as_messages_with_one_attempt_and_two_events(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(stored_rows, "_BATCH", batch)
    await stored_rows.prepare(database_url)
    await stored_rows.grow(database_url, 0, 60, FIRST_MS)
    await stored_rows.grow(database_url, 60, 101, FIRST_MS)
    messages = HistoryReader(engine)
    for n, state, outcome in (
        (57, pb.MESSAGE_STATE_SENT, pb.ATTEMPT_OUTCOME_ACCEPTED),
        (100, pb.MESSAGE_STATE_FAILED, pb.ATTEMPT_OUTCOME_PERMANENT),
    ):
        message_id = stored_rows.message_id(n, FIRST_MS)
        found = await messages.find("default", message_id)
        assert found is not None
        assert (found.state, found.provider, found.request_id) == (state, f"p{n % 5 + 1}", f"row-{n}")
        assert found.accept_time.ToMilliseconds() == FIRST_MS + n * stored_rows.STEP_MS
        assert [one.outcome for one in found.attempts] == [outcome]
        command = await messages.command("default", message_id)
        assert command is not None
        assert command.body == f"A text of the usual length, number {n}"
        assert [one.state for one in await messages.events("default", message_id)] == [4, state]
    listed = await messages.list_page("default", gateway_pb2.ListMessagesRequest(recipient="+233200000042"), None, 10)
    assert [one.message_id for one in listed] == [str(stored_rows.message_id(42, FIRST_MS))]


async def test_generated_rows_are_in_partitions_and_none_is_missing_or_duplicate(
    engine: AsyncEngine, database_url: str
) -> None:
    await stored_rows.prepare(database_url)
    await stored_rows.grow(database_url, 0, 500, FIRST_MS)
    async with engine.connect() as connection:
        for table, count in (("messages", 500), ("attempts", 500), ("events", 1000)):
            assert await connection.scalar(text(f"select count(*) from {table}")) == count  # noqa: S608
            assert await connection.scalar(text(f"select count(*) from {table}_default")) == 0  # noqa: S608
