"""Dead letters on a real stream: what is walked, what may be replayed, and what a crash between two steps leaves."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatcher.dead_letters import DeadLetters, Letter, Ready, Stays
from dispatcher.sweeper import Sweeper
from messaging import codec
from messaging.config import Settings
from messaging.model import KEY_BYTES, Address, key_from_bytes, new_address
from messaging.store.history import History
from messaging.store.messages import Messages, Overdue
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.connection import Connection, open_connection
from messaging.stream.publisher import Publisher
from ops.embedded import NatsServer
from tests.integration.records import NOW, accepted, event, new_id

PROVIDERS = ["p1", "p2"]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest_asyncio.fixture(scope="module")
async def connection(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Connection]:
    server = NatsServer(tmp_path_factory.mktemp("letters"))
    server.start()
    async with open_connection(server.url, "test") as opened:
        await setup.ensure(opened, Settings(), PROVIDERS)
        yield opened
    server.stop()


@pytest_asyncio.fixture
async def letters(connection: Connection) -> DeadLetters:
    await connection.api(f"STREAM.PURGE.{topo.DLQ}")
    return DeadLetters(connection, PROVIDERS)


def address(client: str = "default") -> Address:
    return new_address(client, time.time_ns() // 1_000_000, key_from_bytes(secrets.token_bytes(KEY_BYTES)))


def command(where: Address, ttl_s: float = 600, **fields) -> wire.Command:
    now = time.time()
    values = {
        "message_id": where.message_id,
        "client": where.client,
        "recipient": "+233201234567",
        "body": "Text",
        "priority": pb.PRIORITY_OTP,
        "provider": "p1",
        "accept_time": codec.timestamp(now),
        "deadline": codec.timestamp(now + ttl_s),
        "traceparent": TRACE,
    }
    return wire.Command(**{**values, **fields})


async def append(connection: Connection, where: Address, state: int, expected: int = 0, **fields) -> int:
    values = {
        "message_id": where.message_id,
        "client": where.client,
        "state": state,
        "provider": "p1",
        "time": codec.timestamp(time.time()),
        "attempts": [pb.Attempt(number=1, provider="p1"), pb.Attempt(number=2, provider="p2")],
        "attempt_count": 2,
        "round": 3,
        "tried": ["p1", "p2"],
    }
    event = wire.Event(**{**values, **fields})
    sequence = await Publisher(connection).append_event(where, event, expected, budget_s=5)
    assert sequence is not None
    return sequence


async def bury(
    connection: Connection,
    where: Address | None = None,
    state: int = pb.MESSAGE_STATE_FAILED,
    reason: str = "EXHAUSTED",
    *,
    expected: int = 0,
    ttl_s: float = 600,
    **fields,
) -> Letter:
    """End a message as a dispatcher does: the event, then the letter."""
    where = where or address()
    sequence = await append(
        connection,
        where,
        state,
        expected,
        reason=reason,
        next=wire.NEXT_STEP_BURY,
        provider=fields.get("provider", "p1"),
    )
    last, _ = await last_event(connection, where)
    letter = wire.DeadLetter(
        command=command(where, ttl_s, **fields), last=last, last_sequence=sequence, reason=reason, time=last.time
    )
    await Publisher(connection).bury(letter, where, budget_s=5)
    found = await DeadLetters(connection).find(where.client, where.message_id)
    assert found is not None
    return found


async def last_event(connection: Connection, where: Address) -> tuple[wire.Event, int]:
    record = await connection.last(topo.EVENT, topo.event_subject(where))
    assert record is not None
    return codec.decode(wire.Event, record.subject, record.data), record.sequence


async def queued(connection: Connection, where: Address) -> tuple[str, wire.QueueEntry] | None:
    record = await connection.last(topo.SEND, topo.send_subject("*", "*", where))
    if record is None:
        return None
    return record.subject, codec.decode(wire.QueueEntry, record.subject, record.data)


async def lying(letters: DeadLetters, where: Address) -> list[int]:
    return [letter.sequence async for letter in letters.walk() if letter.address == where]


async def test_walk_gives_all_letters_or_those_of_a_provider_and_reason(connection: Connection, letters: DeadLetters):
    made = [
        await bury(connection),
        await bury(connection, provider="p2", reason="EXPIRED", state=pb.MESSAGE_STATE_EXPIRED),
        await bury(connection, provider="p2"),
    ]
    assert [letter async for letter in letters.walk()] == made
    assert [letter async for letter in letters.walk("p2")] == made[1:]
    assert [letter async for letter in letters.walk(reason="EXPIRED")] == made[1:2]
    assert [letter async for letter in letters.walk("p2", "exhausted")] == made[2:]
    assert await letters.counts() == {("p1", "EXHAUSTED"): 1, ("p2", "EXPIRED"): 1, ("p2", "EXHAUSTED"): 1}


async def test_walk_of_nothing_is_empty(letters: DeadLetters):
    assert [letter async for letter in letters.walk()] == []
    assert await letters.counts() == {}


async def test_walk_ends_although_every_letter_is_buried_again_meanwhile(connection: Connection, letters: DeadLetters):
    for _ in range(3):
        await bury(connection)
    seen = 0
    async for letter in letters.walk():
        seen += 1
        await bury(connection)
        await letters.discard(letter)
    assert seen == 3


async def test_find_is_bound_to_the_client(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    assert await letters.find("default", letter.address.message_id) == letter
    assert await letters.find("another", letter.address.message_id) is None


async def test_replay_writes_the_event_then_the_queue_entry_and_takes_the_letter_away(
    connection: Connection, letters: DeadLetters
):
    letter = await bury(connection)
    done = await letters.replay(letter, now=time.time())
    assert isinstance(done, Ready)
    last, sequence = await last_event(connection, letter.address)
    assert (last.state, last.reason, last.next) == (pb.MESSAGE_STATE_QUEUED, "REPLAYED", wire.NEXT_STEP_MOVE)
    assert (last.provider, last.round, list(last.tried), last.attempt_count) == ("p1", 0, [], 2)
    assert [one.number for one in last.attempts] == [1, 2]
    found = await queued(connection, letter.address)
    assert found is not None
    subject, entry = found
    assert subject == topo.send_subject("p1", "otp", letter.address)
    assert (entry.last, entry.last_sequence) == (last, sequence)
    assert entry.command == letter.content.command
    assert await lying(letters, letter.address) == []


async def test_replay_to_another_provider_names_it_in_event_and_queue(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    await letters.replay(letter, "p2", now=time.time())
    last, _ = await last_event(connection, letter.address)
    found = await queued(connection, letter.address)
    assert found is not None
    assert (last.provider, found[0]) == ("p2", topo.send_subject("p2", "otp", letter.address))


@pytest.mark.parametrize("state", [pb.MESSAGE_STATE_EXPIRED, pb.MESSAGE_STATE_UNKNOWN, pb.MESSAGE_STATE_REJECTED])
async def test_each_replayable_state_is_replayed(connection: Connection, letters: DeadLetters, state: int):
    letter = await bury(connection, state=state)
    assert isinstance(await letters.replay(letter, now=time.time()), Ready)


@pytest.mark.parametrize("state", [pb.MESSAGE_STATE_SENT, pb.MESSAGE_STATE_CANCELED, pb.MESSAGE_STATE_DELIVERED])
async def test_what_was_sent_or_withdrawn_is_not_replayed(connection: Connection, letters: DeadLetters, state: int):
    letter = await bury(connection, state=state)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)
    assert await queued(connection, letter.address) is None


async def test_expired_deadline_needs_a_new_one_which_then_counts_everywhere(
    connection: Connection, letters: DeadLetters
):
    letter = await bury(connection, ttl_s=-5)
    stays = await letters.replay(letter, now=time.time())
    assert isinstance(stays, Stays)
    assert "--ttl" in stays.why
    assert await queued(connection, letter.address) is None
    now = time.time()
    done = await letters.replay(letter, ttl_s=90, now=now)
    assert isinstance(done, Ready)
    last, _ = await last_event(connection, letter.address)
    found = await queued(connection, letter.address)
    assert found is not None
    assert codec.unix(found[1].command.deadline) == pytest.approx(now + 90, abs=0.001)
    assert last.deadline == found[1].command.deadline


async def test_deadline_of_a_former_replay_still_counts(connection: Connection, letters: DeadLetters):
    first = await bury(connection, ttl_s=-5)
    await letters.replay(first, ttl_s=90, now=time.time())
    _, sequence = await last_event(connection, first.address)
    again = await append(
        connection,
        first.address,
        pb.MESSAGE_STATE_FAILED,
        sequence,
        next=wire.NEXT_STEP_BURY,
        reason="EXHAUSTED",
        deadline=codec.timestamp(time.time() + 90),
    )
    last, _ = await last_event(connection, first.address)
    letter = wire.DeadLetter(command=command(first.address, -5), last=last, last_sequence=again, reason="EXHAUSTED")
    await Publisher(connection).bury(letter, first.address, budget_s=5)
    found = await letters.find("default", first.address.message_id)
    assert found is not None
    assert isinstance(await letters.replay(found, now=time.time()), Ready)


async def test_letter_of_a_message_that_moved_on_stays(connection: Connection, letters: DeadLetters):
    letter = await bury(connection, state=pb.MESSAGE_STATE_UNKNOWN)
    sequence = letter.content.last_sequence
    await append(connection, letter.address, pb.MESSAGE_STATE_DELIVERED, sequence)
    stays = await letters.replay(letter, now=time.time())
    assert isinstance(stays, Stays)
    assert "DELIVERED" in stays.why
    assert await queued(connection, letter.address) is None
    assert await lying(letters, letter.address) == [letter.sequence]


async def test_letter_of_an_earlier_failure_does_not_replay_a_later_one(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    await append(connection, letter.address, pb.MESSAGE_STATE_FAILED, letter.content.last_sequence)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)


async def test_message_that_the_stream_has_forgotten_stays(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    await connection.delete(topo.EVENT, letter.content.last_sequence)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)


async def test_provider_that_is_not_configured_or_not_allowed_stays(connection: Connection, letters: DeadLetters):
    letter = await bury(connection, provider="gone")
    stays = await letters.replay(letter, now=time.time())
    assert isinstance(stays, Stays)
    assert "gone is not configured" in stays.why
    bound = await bury(connection, providers=["p1"])
    refused = await letters.replay(bound, "p2", now=time.time())
    assert isinstance(refused, Stays)
    assert "allows only p1" in refused.why
    assert isinstance(await letters.replay(letter, "p2", now=time.time()), Ready)


async def test_unreadable_letters_are_walked_and_can_only_be_discarded(connection: Connection, letters: DeadLetters):
    where, garbage = address(), address()
    buried = wire.DeadLetter(reason="UNREADABLE", unreadable=b"\xff\x01", command=wire.Command(provider="p1"))
    await Publisher(connection).bury(buried, where, budget_s=5)
    await connection.publish(topo.dlq_subject("p1", "unreadable", garbage), b"\xff\xff")
    found = [letter async for letter in letters.walk()]
    assert [(one.address, one.content.command.message_id) for one in found] == [
        (one, one.message_id) for one in (where, garbage)
    ]
    for letter in found:
        stays = await letters.replay(letter, now=time.time())
        assert isinstance(stays, Stays)
        assert "only be discarded" in stays.why
        assert await letters.discard(letter)
    assert [letter async for letter in letters.walk()] == []


async def test_discard_leaves_the_message_as_it_is(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    before = await last_event(connection, letter.address)
    assert await letters.discard(letter)
    assert not await letters.discard(letter)
    assert await last_event(connection, letter.address) == before
    assert await letters.find("default", letter.address.message_id) is None


class Crash(Exception):
    """The process ends here."""


async def crash_after(
    letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, step: str, letter: Letter, ttl_s: float | None = None
) -> None:
    """Replay, and end right after a step of it."""
    owner = letters if step == "discard" else letters._publisher
    real = getattr(owner, step)

    async def dies(*arguments: object, **named: object) -> None:
        await real(*arguments, **named)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        with pytest.raises(Crash):
            await letters.replay(letter, ttl_s=ttl_s, now=time.time())


@pytest.mark.parametrize("step", ["append_event", "enqueue"])
async def test_replay_repeated_after_a_crash_takes_up_where_it_stopped(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, step: str
):
    letter = await bury(connection)
    await crash_after(letters, monkeypatch, step, letter)
    assert await lying(letters, letter.address) == [letter.sequence]
    event = await last_event(connection, letter.address)
    done = await letters.replay(letter, now=time.time())
    assert isinstance(done, Ready)
    assert await last_event(connection, letter.address) == event
    found = await queued(connection, letter.address)
    assert found is not None
    assert found[1].last_sequence == event[1]
    assert await lying(letters, letter.address) == []


async def test_new_deadline_after_a_crash_is_written_again(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
):
    letter = await bury(connection, ttl_s=-5)
    await crash_after(letters, monkeypatch, "append_event", letter, ttl_s=5)
    now = time.time() + 60
    assert isinstance(await letters.replay(letter, now=now), Stays)
    assert isinstance(await letters.replay(letter, ttl_s=90, now=now), Ready)
    last, sequence = await last_event(connection, letter.address)
    found = await queued(connection, letter.address)
    assert found is not None
    assert codec.unix(last.deadline) == pytest.approx(now + 90, abs=0.001)
    assert found[1].last_sequence == sequence


async def test_replay_repeated_after_the_message_was_sent_sends_nothing(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
):
    letter = await bury(connection)
    await crash_after(letters, monkeypatch, "enqueue", letter)
    _, sequence = await last_event(connection, letter.address)
    await append(connection, letter.address, pb.MESSAGE_STATE_SENT, sequence)
    subject = topo.send_subject("p1", "otp", letter.address)
    record = await connection.last(topo.SEND, subject)
    assert record is not None
    await connection.delete(topo.SEND, record.sequence)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)
    assert await queued(connection, letter.address) is None


async def test_failing_again_before_the_old_letter_is_gone_keeps_a_letter(
    connection: Connection, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
):
    letter = await bury(connection)
    await crash_after(letters, monkeypatch, "enqueue", letter)
    _, sequence = await last_event(connection, letter.address)
    again = await bury(connection, letter.address, expected=sequence)
    assert again.sequence > letter.sequence
    await letters.discard(letter)
    assert await letters.find("default", letter.address.message_id) == again
    assert isinstance(await letters.replay(again, now=time.time()), Ready)


async def test_burying_twice_keeps_one_letter(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    await Publisher(connection).bury(letter.content, letter.address, budget_s=5)
    assert await lying(letters, letter.address) == [letter.sequence]


async def test_two_replays_at_once_queue_the_message_once(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    await asyncio.gather(*(letters.replay(letter, now=time.time()) for _ in range(4)))
    info = await connection.api(
        f"STREAM.INFO.{topo.SEND}", {"subjects_filter": topo.send_subject("*", "*", letter.address)}
    )
    assert sum(info["state"]["subjects"].values()) == 1
    assert await lying(letters, letter.address) == []


async def test_examine_changes_nothing(connection: Connection, letters: DeadLetters):
    letter = await bury(connection)
    before = await last_event(connection, letter.address)
    assert isinstance(await letters.examine(letter, "p2", now=time.time()), Ready)
    assert await last_event(connection, letter.address) == before
    assert await queued(connection, letter.address) is None
    assert await lying(letters, letter.address) == [letter.sequence]


@pytest.mark.parametrize("late_accept", [False, True])
async def test_history_takes_over_the_new_deadline_so_that_nobody_sweeps_the_message(
    engine: AsyncEngine, *, late_accept: bool
):
    message_id, history = new_id(), History(engine)
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
    status = await Messages(engine).find("default", message_id)
    assert status is not None
    assert status.deadline.ToDatetime(tzinfo=later.tzinfo) == later
    known = Messages(engine)
    assert await known.overdue(later - timedelta(seconds=1), 10) == []
    assert [one.message_id for one in await known.overdue(later + timedelta(seconds=1), 10)] == [message_id]


async def test_sweeper_heeds_the_new_deadline_also_while_the_history_does_not_know_it(
    connection: Connection, letters: DeadLetters
):
    letter = await bury(connection, ttl_s=-60)
    await letters.replay(letter, ttl_s=90, now=time.time())
    sweeper = Sweeper(connection, Lagging(letter.content.command), "test")
    assert await sweeper.sweep(time.time()) == 0
    assert (await last_event(connection, letter.address))[0].reason == "REPLAYED"
    assert await sweeper.sweep(time.time() + 91) == 1
    last, _ = await last_event(connection, letter.address)
    assert (last.state, last.reason) == (pb.MESSAGE_STATE_EXPIRED, "EXPIRED")


class Lagging:
    """A history that knows one message as it was accepted."""

    def __init__(self, command: wire.Command) -> None:
        self._command = command

    async def overdue(self, before: datetime, limit: int) -> list[Overdue]:
        return [Overdue(self._command.client, self._command.message_id, pb.MESSAGE_STATE_QUEUED)]

    async def command(self, client: str, message_id: str) -> wire.Command:
        return self._command
