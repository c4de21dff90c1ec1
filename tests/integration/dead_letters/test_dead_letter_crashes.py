"""Crashes between two steps of a replay, and where the new deadline takes effect."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatcher.duties.sweeper import Sweeper
from messaging import codec
from messaging.store.reader import HistoryReader, Overdue
from messaging.store.writer import HistoryWriter
from messaging.stream import topology as topo
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher
from ops.dead_letters import DeadLetters, Letter, Ready, Stays, Wish
from tests.integration.dead_letters.letters import append, dead_letter, last_event, letters_of, queued
from tests.integration.records import NOW, accepted, event, new_id


class Crash(Exception):
    """The process crashes here."""


async def crash_after(
    letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, step: str, letter: Letter, ttl_s: float | None = None
) -> None:
    """Replay, and crash right after a step."""
    owner = letters if step == "discard" else letters._publisher
    real = getattr(owner, step)

    async def dies(*arguments: object, **named: object) -> None:
        await real(*arguments, **named)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        with pytest.raises(Crash):
            await letters.replay(letter, Wish(ttl_s=ttl_s), now=time.time())


@pytest.mark.parametrize("step", ["append_event", "enqueue"])
async def test_replay_repeated_after_a_crash_continues_where_it_stopped(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, step: str
):
    letter = await dead_letter(connection)
    await crash_after(letters, monkeypatch, step, letter)
    assert await letters_of(letters, letter.address) == [letter.sequence]
    event = await last_event(connection, letter.address)
    done = await letters.replay(letter, now=time.time())
    assert isinstance(done, Ready)
    assert await last_event(connection, letter.address) == event
    found = await queued(connection, letter.address)
    assert found is not None
    assert found[1].last_sequence == event[1]
    assert await letters_of(letters, letter.address) == []


async def test_new_deadline_after_a_crash_is_written_again(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
):
    letter = await dead_letter(connection, ttl_s=-5)
    await crash_after(letters, monkeypatch, "append_event", letter, ttl_s=5)
    now = time.time() + 60
    assert isinstance(await letters.replay(letter, now=now), Stays)
    assert isinstance(await letters.replay(letter, Wish(ttl_s=90), now=now), Ready)
    last, sequence = await last_event(connection, letter.address)
    found = await queued(connection, letter.address)
    assert found is not None
    assert codec.unix(last.deadline) == pytest.approx(now + 90, abs=0.001)
    assert found[1].last_sequence == sequence


async def test_replay_repeated_after_the_message_was_sent_sends_nothing(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
):
    letter = await dead_letter(connection)
    await crash_after(letters, monkeypatch, "enqueue", letter)
    _, sequence = await last_event(connection, letter.address)
    await append(connection, letter.address, pb.MESSAGE_STATE_SENT, sequence)
    subject = topo.send_subject("p1", "otp", letter.address)
    record = await connection.last(topo.SEND, subject)
    assert record is not None
    await connection.delete(topo.SEND, record.sequence)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)
    assert await queued(connection, letter.address) is None


async def test_message_that_fails_again_before_its_old_letter_is_deleted_keeps_a_letter(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
):
    letter = await dead_letter(connection)
    await crash_after(letters, monkeypatch, "enqueue", letter)
    _, sequence = await last_event(connection, letter.address)
    again = await dead_letter(connection, letter.address, expected=sequence)
    assert again.sequence > letter.sequence
    await letters.discard(letter, "ann", now=time.time())
    assert await letters.find("default", letter.address.message_id) == again
    assert isinstance(await letters.replay(again, now=time.time()), Ready)


async def test_dead_letter_written_twice_is_kept_once(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    await Publisher(connection).bury(letter.content, letter.address, budget_s=5)
    assert await letters_of(letters, letter.address) == [letter.sequence]


async def test_concurrent_replays_queue_the_message_once(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    await asyncio.gather(*(letters.replay(letter, now=time.time()) for _ in range(4)))
    info = await connection.api(
        f"STREAM.INFO.{topo.SEND}", {"subjects_filter": topo.send_subject("*", "*", letter.address)}
    )
    assert sum(info["state"]["subjects"].values()) == 1
    assert await letters_of(letters, letter.address) == []


@pytest.mark.parametrize("late_accept", [False, True])
async def test_history_takes_over_the_new_deadline_and_the_message_is_not_swept(
    engine: AsyncEngine, *, late_accept: bool
):
    message_id, history = new_id(), HistoryWriter(engine)
    acceptance = accepted(message_id)  # ten minutes
    later = NOW + timedelta(hours=2)
    batches = [
        [acceptance],
        [event(message_id, pb.MESSAGE_STATE_EXPIRED)],
        [event(message_id, pb.MESSAGE_STATE_QUEUED, deadline=later)],
        [event(message_id, pb.MESSAGE_STATE_SENDING, deadline=later)],
    ]
    for batch in [*batches[1:], batches[0]] if late_accept else batches:
        await history.write(batch)
    status = await HistoryReader(engine).find("default", message_id)
    assert status is not None
    assert status.deadline.ToDatetime(tzinfo=later.tzinfo) == later
    known = HistoryReader(engine)
    assert await known.overdue(later - timedelta(seconds=1), 10) == []
    assert [one.message_id for one in await known.overdue(later + timedelta(seconds=1), 10)] == [message_id]


async def test_sweeper_obeys_the_new_deadline_before_the_history_has_it(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection, ttl_s=-60)
    await letters.replay(letter, Wish(ttl_s=90), now=time.time())
    sweeper = Sweeper(connection, Lagging(letter.content.command), "test", 7 * 86_400)
    assert await sweeper.sweep(time.time()) == 0
    assert (await last_event(connection, letter.address))[0].reason == "REPLAYED"
    assert await sweeper.sweep(time.time() + 91) == 1
    last, _ = await last_event(connection, letter.address)
    assert (last.state, last.reason) == (pb.MESSAGE_STATE_EXPIRED, "EXPIRED")


class Lagging:
    """A history with one message as it was accepted."""

    def __init__(self, command: wire.Command) -> None:
        self._command = command

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        return [Overdue(self._command.client, self._command.message_id, pb.MESSAGE_STATE_QUEUED, before)]

    async def commands(self, _wanted: Sequence[Overdue]) -> dict[str, wire.Command]:
        return {self._command.message_id: self._command}
