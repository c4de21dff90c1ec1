"""Dead letters on a real stream: which are listed, which can be replayed, and which stay."""

import time

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.stream import topology as topo
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher
from ops.dead_letters import DeadLetters, Ready, Stays, Wish
from tests.integration.dead_letters.letters import address, append, command, dead_letter, last_event, letters_of, queued


async def test_walk_returns_all_letters_or_those_of_a_provider_and_reason(connection: Connection, letters: DeadLetters):
    made = [
        await dead_letter(connection),
        await dead_letter(connection, provider="p2", reason="EXPIRED", state=pb.MESSAGE_STATE_EXPIRED),
        await dead_letter(connection, provider="p2"),
    ]
    assert [letter async for letter in letters.walk()] == made
    assert [letter async for letter in letters.walk("p2")] == made[1:]
    assert [letter async for letter in letters.walk(reason="EXPIRED")] == made[1:2]
    assert [letter async for letter in letters.walk("p2", "exhausted")] == made[2:]
    assert await letters.counts() == {("p1", "EXHAUSTED"): 1, ("p2", "EXPIRED"): 1, ("p2", "EXHAUSTED"): 1}


async def test_walk_without_letters_is_empty(letters: DeadLetters):
    assert [letter async for letter in letters.walk()] == []
    assert await letters.counts() == {}


async def test_walk_ends_although_every_letter_is_written_again(connection: Connection, letters: DeadLetters):
    for _ in range(3):
        await dead_letter(connection)
    seen = 0
    async for letter in letters.walk():
        seen += 1
        await dead_letter(connection)
        await letters.discard(letter, "ann", now=time.time())
    assert seen == 3


async def test_find_returns_only_letters_of_the_client(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    assert await letters.find("default", letter.address.message_id) == letter
    assert await letters.find("another", letter.address.message_id) is None


async def test_replay_writes_the_event_then_the_queue_entry_and_deletes_the_letter(
    connection: Connection, letters: DeadLetters
):
    letter = await dead_letter(connection)
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
    assert await letters_of(letters, letter.address) == []


async def test_replay_to_another_provider_names_it_in_event_and_queue(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    await letters.replay(letter, Wish("p2"), now=time.time())
    last, _ = await last_event(connection, letter.address)
    found = await queued(connection, letter.address)
    assert found is not None
    assert (last.provider, found[0]) == ("p2", topo.send_subject("p2", "otp", letter.address))


@pytest.mark.parametrize("state", [pb.MESSAGE_STATE_EXPIRED, pb.MESSAGE_STATE_UNKNOWN, pb.MESSAGE_STATE_REJECTED])
async def test_each_replayable_state_is_replayed(connection: Connection, letters: DeadLetters, state: int):
    letter = await dead_letter(connection, state=state)
    assert isinstance(await letters.replay(letter, now=time.time()), Ready)


@pytest.mark.parametrize("state", [pb.MESSAGE_STATE_SENT, pb.MESSAGE_STATE_CANCELED, pb.MESSAGE_STATE_DELIVERED])
async def test_sent_or_canceled_message_is_not_replayed(connection: Connection, letters: DeadLetters, state: int):
    letter = await dead_letter(connection, state=state)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)
    assert await queued(connection, letter.address) is None


async def test_replay_after_the_deadline_needs_a_new_one_which_then_applies_everywhere(
    connection: Connection, letters: DeadLetters
):
    letter = await dead_letter(connection, ttl_s=-5)
    stays = await letters.replay(letter, now=time.time())
    assert isinstance(stays, Stays)
    assert "--ttl" in stays.why
    assert await queued(connection, letter.address) is None
    now = time.time()
    done = await letters.replay(letter, Wish(ttl_s=90), now=now)
    assert isinstance(done, Ready)
    last, _ = await last_event(connection, letter.address)
    found = await queued(connection, letter.address)
    assert found is not None
    assert codec.unix(found[1].command.deadline) == pytest.approx(now + 90, abs=0.001)
    assert last.deadline == found[1].command.deadline


async def test_deadline_of_an_earlier_replay_still_applies(connection: Connection, letters: DeadLetters):
    first = await dead_letter(connection, ttl_s=-5)
    await letters.replay(first, Wish(ttl_s=90), now=time.time())
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


async def test_letter_of_a_message_that_has_moved_on_is_not_replayed(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection, state=pb.MESSAGE_STATE_UNKNOWN)
    sequence = letter.content.last_sequence
    await append(connection, letter.address, pb.MESSAGE_STATE_DELIVERED, sequence)
    stays = await letters.replay(letter, now=time.time())
    assert isinstance(stays, Stays)
    assert "DELIVERED" in stays.why
    assert await queued(connection, letter.address) is None
    assert await letters_of(letters, letter.address) == [letter.sequence]


async def test_letter_of_an_earlier_failure_does_not_replay_a_later_one(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    await append(connection, letter.address, pb.MESSAGE_STATE_FAILED, letter.content.last_sequence)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)


async def test_message_whose_events_are_deleted_is_not_replayed(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    await connection.delete(topo.EVENT, letter.content.last_sequence)
    assert isinstance(await letters.replay(letter, now=time.time()), Stays)


async def test_replay_to_an_unknown_or_forbidden_provider_is_refused(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection, provider="gone")
    stays = await letters.replay(letter, now=time.time())
    assert isinstance(stays, Stays)
    assert "gone is not configured" in stays.why
    bound = await dead_letter(connection, providers=["p1"])
    refused = await letters.replay(bound, Wish("p2"), now=time.time())
    assert isinstance(refused, Stays)
    assert "allows only p1" in refused.why
    assert isinstance(await letters.replay(letter, Wish("p2"), now=time.time()), Ready)


async def test_unreadable_letters_are_listed_and_can_only_be_discarded(connection: Connection, letters: DeadLetters):
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
        assert await letters.discard(letter, "ann", now=time.time())
    assert [letter async for letter in letters.walk()] == []


async def test_discard_changes_only_the_messages_story(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    before, _ = await last_event(connection, letter.address)
    assert await letters.discard(letter, "ann", now=time.time())
    assert not await letters.discard(letter, "ann", now=time.time())
    after, _ = await last_event(connection, letter.address)
    assert after.detail.endswith("ann discarded its dead letter")
    for told in (before, after):
        for field in ("detail", "time", "pod", "nonce", "traceparent", "next"):
            told.ClearField(field)
    assert after == before
    assert await letters.find("default", letter.address.message_id) is None


async def test_examine_changes_nothing(connection: Connection, letters: DeadLetters):
    letter = await dead_letter(connection)
    before = await last_event(connection, letter.address)
    assert isinstance(await letters.examine(letter, Wish("p2"), now=time.time()), Ready)
    assert await last_event(connection, letter.address) == before
    assert await queued(connection, letter.address) is None
    assert await letters_of(letters, letter.address) == [letter.sequence]
