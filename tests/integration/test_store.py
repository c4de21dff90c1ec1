"""Writing and reading the history: the same rows in any order of writing, and no client reads another's."""

import random
from datetime import timedelta
from typing import Any

import pytest
from sms.dispatch.v1 import dispatch_pb2
from sms.gateway.v1 import gateway_pb2
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from messaging.errors import CorruptRecord, StoreDown
from messaging.store.reader import HistoryReader
from messaging.store.writer import HistoryWriter, Projected
from tests.integration.records import NOW, TRACE, a_long_story, accepted, attempt, command, event, new_id

Rows = dict[str, list[tuple[Any, ...]]]


async def all_rows(engine: AsyncEngine) -> Rows:
    rows: Rows = {}
    async with engine.connect() as connection:
        for table, order in (("messages", "message_id"), ("attempts", "message_id, number"), ("events", "sequence")):
            found = await connection.execute(text(f"select * from {table} order by {order}"))  # noqa: S608
            rows[table] = [tuple(row) for row in found]
    return rows


async def found(engine: AsyncEngine, message_id: str) -> pb.MessageStatus:
    status = await HistoryReader(engine).find("default", message_id)
    assert status is not None
    return status


async def test_accepted_message_is_found_with_every_field_of_the_caller(engine: AsyncEngine):
    message_id = new_id()
    await HistoryWriter(engine).write([accepted(message_id)])
    asked = command(message_id)
    assert await found(engine, message_id) == pb.MessageStatus(
        message_id=message_id,
        request_id="order-7",
        client_reference="basket-9",
        state=pb.MESSAGE_STATE_ACCEPTED,
        provider="twilio",
        recipient=asked.recipient,
        sender="Shop",
        encoding=pb.ENCODING_GSM7,
        segments=1,
        priority=pb.PRIORITY_OTP,
        accept_time=asked.accept_time,
        deadline=asked.deadline,
        update_time=asked.accept_time,
        labels={"campaign": "autumn"},
        trace_id=TRACE,
        route_reason="weights",
    )


@pytest.mark.parametrize(
    "fields", [{}, {"request_id": "", "labels": {}, "providers": [], "fingerprint": b"", "body": ""}]
)
async def test_command_is_read_as_it_was_accepted(engine: AsyncEngine, fields: dict[str, Any]):
    message_id = new_id()
    await HistoryWriter(engine).write([accepted(message_id, **fields)])
    assert await HistoryReader(engine).command("default", message_id) == command(message_id, **fields)


@pytest.mark.parametrize(
    ("wait", "state"),
    [(timedelta(hours=1), pb.MESSAGE_STATE_SCHEDULED), (timedelta(minutes=-1), pb.MESSAGE_STATE_ACCEPTED)],
)
async def test_only_a_schedule_in_the_future_makes_a_message_scheduled(
    engine: AsyncEngine, wait: timedelta, state: int
):
    message_id = new_id()
    await HistoryWriter(engine).write([accepted(message_id, schedule_time=NOW + wait)])
    assert (await found(engine, message_id)).state == state


async def test_message_is_read_with_all_its_events_and_attempts(engine: AsyncEngine):
    message_id = new_id()
    story = a_long_story(message_id)
    await HistoryWriter(engine).write(story[:3])
    waiting = await found(engine, message_id)
    assert (waiting.state, waiting.provider, waiting.error.reason) == (pb.MESSAGE_STATE_QUEUED, "twilio", "OVERLOADED")
    assert waiting.next_attempt_time.ToDatetime() == (NOW + timedelta(seconds=30)).replace(tzinfo=None)
    await HistoryWriter(engine).write(story[3:])
    done = await found(engine, message_id)
    assert done.state == pb.MESSAGE_STATE_DELIVERED
    assert done.final
    assert done.provider_message_id == "ak-1"
    assert not done.HasField("next_attempt_time")
    assert not done.HasField("error")
    last_but_one = story[4].event
    assert last_but_one is not None
    assert list(done.attempts) == list(last_but_one.attempts)  # including the one that the last event left out
    told = await HistoryReader(engine).events("default", message_id)
    assert [entry.state for entry in told] == [item.event.state for item in story if item.event]
    assert (told[1].round, told[1].next, told[1].pod) == (1, dispatch_pb2.NEXT_STEP_LATER, "pod-1")


async def test_rows_are_the_same_for_any_order_and_any_repeats(engine: AsyncEngine):
    records = [record for _ in range(3) for record in a_long_story(new_id())]
    history = HistoryWriter(engine)
    await history.write(records)
    expected = await all_rows(engine)
    assert [len(rows) for rows in expected.values()] == [3, 6, 15]
    dice = random.Random(20261118)
    for _ in range(40):
        async with engine.begin() as connection:
            await connection.execute(text("truncate messages, attempts, events"))
        shuffled = [*records, *dice.choices(records, k=12)]
        dice.shuffle(shuffled)
        while shuffled:
            size = dice.randint(1, 9)
            batch, shuffled = shuffled[:size], shuffled[size:]
            await history.write(batch)
        assert await all_rows(engine) == expected


async def test_event_before_its_accept_record_is_kept_and_completed(engine: AsyncEngine):
    message_id = new_id()
    await HistoryWriter(engine).write([event(message_id, pb.MESSAGE_STATE_SENT, provider="arkesel")])
    early = await found(engine, message_id)
    assert (early.state, early.provider, early.recipient) == (pb.MESSAGE_STATE_SENT, "arkesel", "")
    assert await HistoryReader(engine).command("default", message_id) is None
    await HistoryWriter(engine).write([accepted(message_id)])
    whole = await found(engine, message_id)
    assert (whole.state, whole.provider) == (pb.MESSAGE_STATE_SENT, "arkesel")
    assert whole.recipient == command(message_id).recipient


async def test_late_event_is_kept_and_never_moves_a_message_backward(engine: AsyncEngine):
    message_id = new_id()
    early = event(message_id, pb.MESSAGE_STATE_SENDING, attempts=[attempt(1)], reason="OLD")
    late = event(message_id, pb.MESSAGE_STATE_SENT, attempts=[attempt(1, pb.ATTEMPT_OUTCOME_ACCEPTED)])
    await HistoryWriter(engine).write([late, accepted(message_id)])
    before = await found(engine, message_id)
    await HistoryWriter(engine).write([early])
    assert await found(engine, message_id) == before
    assert before.attempts[0].outcome == pb.ATTEMPT_OUTCOME_ACCEPTED
    assert len(await HistoryReader(engine).events("default", message_id)) == 2


async def test_batch_that_fails_half_way_leaves_nothing(engine: AsyncEngine):
    records = a_long_story(new_id())
    breaking = HistoryWriter(engine)
    breaking._upsert_attempts = text("select 1 / 0")  # type: ignore[assignment]
    with pytest.raises(StoreDown):
        await breaking.write(records)
    assert await all_rows(engine) == {"messages": [], "attempts": [], "events": []}
    await HistoryWriter(engine).write(records)
    assert len((await all_rows(engine))["events"]) == 5


async def test_record_without_a_usable_id_is_refused_before_anything_is_written(engine: AsyncEngine):
    with pytest.raises(CorruptRecord, match="SMS_EVENT 7"):
        await HistoryWriter(engine).write(
            [accepted(new_id()), Projected(7, event=dispatch_pb2.Event(message_id="seven"))]
        )
    assert (await all_rows(engine))["messages"] == []


async def test_nul_character_does_not_block_the_batch(engine: AsyncEngine):
    message_id = new_id()
    await HistoryWriter(engine).write([accepted(message_id, body="a\0b", client_reference="c\0d")])
    kept = await HistoryReader(engine).command("default", message_id)
    assert kept is not None
    assert (kept.body, kept.client_reference) == ("a\0b", "c\0d"), "every byte of what was accepted is kept"
    wanted = gateway_pb2.ListMessagesRequest(client_reference="c\ufffdd")
    assert len(await HistoryReader(engine).list_page("default", wanted, None, 10)) == 1


async def test_empty_batch_sends_nothing_to_the_database(engine: AsyncEngine):
    await HistoryWriter(engine).write([])
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]


def test_record_is_either_accepted_or_an_event():
    with pytest.raises(ValueError, match="either"):
        Projected(1)


async def test_newest_message_of_a_request_id_is_found(engine: AsyncEngine):
    old, new = new_id(NOW - timedelta(days=9)), new_id()
    await HistoryWriter(engine).write([accepted(new), accepted(old), accepted(new_id(), request_id="")])
    status = await HistoryReader(engine).find_by_request_id("default", "order-7")
    assert status is not None
    assert status.message_id == new
    assert await HistoryReader(engine).find_by_request_id("default", "") is None


async def test_client_reads_no_message_of_another_client(engine: AsyncEngine):
    message_id = new_id()
    await HistoryWriter(engine).write(a_long_story(message_id))
    reader = HistoryReader(engine)
    assert await reader.find("other", message_id) is None
    assert await reader.find_by_request_id("other", "order-7") is None
    assert await reader.list_page("other", gateway_pb2.ListMessagesRequest(), None, 10) == []
    assert await reader.events("other", message_id) == []
    assert await reader.command("other", message_id) is None
    assert len(await reader.events(None, message_id)) == 5


async def test_malformed_id_is_not_found(engine: AsyncEngine):
    reader = HistoryReader(engine)
    assert await reader.find("default", "nonsense") is None
    assert await reader.events(None, "nonsense") == []
    assert await reader.command("default", "nonsense") is None


async def test_pages_walk_through_all_messages_newest_first(engine: AsyncEngine):
    ids = [new_id(NOW - timedelta(hours=7 * number)) for number in range(60)]
    await HistoryWriter(engine).write([accepted(message_id) for message_id in ids])
    walked: list[str] = []
    while page := await HistoryReader(engine).list_page(
        "default", gateway_pb2.ListMessagesRequest(), walked[-1] if walked else None, 7
    ):
        walked += [status.message_id for status in page]
    assert walked == ids


async def test_filters_are_combined(engine: AsyncEngine):
    plain, sent = new_id(), new_id(NOW + timedelta(seconds=1))
    other = new_id(NOW + timedelta(seconds=2))
    await HistoryWriter(engine).write(
        [
            *(accepted(plain), accepted(sent), accepted(other, recipient="+15005550006", client_reference="basket-1")),
            *(event(sent, pb.MESSAGE_STATE_SENT, provider="arkesel"), event(other, pb.MESSAGE_STATE_FAILED)),
        ]
    )

    async def listed(**filters: Any) -> list[str]:
        page = await HistoryReader(engine).list_page("default", gateway_pb2.ListMessagesRequest(**filters), None, 10)
        return [status.message_id for status in page]

    assert await listed() == [other, sent, plain]
    assert await listed(states=[pb.MESSAGE_STATE_SENT, pb.MESSAGE_STATE_FAILED]) == [other, sent]
    assert await listed(provider="arkesel") == [sent]
    assert await listed(recipient="+15005550006") == [other]
    assert await listed(client_reference="basket-9") == [sent, plain]
    assert await listed(client_reference="basket-9", states=[pb.MESSAGE_STATE_ACCEPTED]) == [plain]
    assert await listed(start_time=NOW + timedelta(seconds=1), end_time=NOW + timedelta(seconds=2)) == [sent]
    assert await listed(start_time=NOW + timedelta(seconds=3)) == []
