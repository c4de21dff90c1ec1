"""Dead letters upon the memory stream: a replay that stops anywhere is taken up again, and sends once."""

import asyncio
import time

import attrs
import pytest
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import Address
from messaging.stream import topology as topo
from ops.dead_letters import DeadLetters, Letter, Ready, Stays, Wish
from tests.memory_stream import Crash
from tests.unit.fake_provider import Reply
from tests.unit.processes import Process
from tests.unit.small_fleet import FLEET, NAMES, SmallFleet
from tests.unit.virtual_time import in_virtual_time

NO_RETRY = attrs.evolve(FLEET, retry_delays_s=())


async def a_letter(fleet: SmallFleet, body: str = "a", ttl_s: float = 60.0) -> tuple[Address, Letter]:
    """Have both providers fail, and give the letter that follows from that."""
    pods = [await fleet.pod(name) for name in NAMES]
    address = await fleet.accept(body, ttl_s=ttl_s)
    await fleet.until_idle()
    for pod in pods:
        await pod.stop()
    assert fleet.story(address)[-1] == "FAILED EXHAUSTED"
    letter = await DeadLetters(fleet.caller.connection).find("default", address.message_id)
    assert letter is not None
    return address, letter


def a_fleet() -> SmallFleet:
    return SmallFleet({name: {"a": [Reply.FAILS]} for name in NAMES}, NO_RETRY)


def letters(fleet: SmallFleet) -> DeadLetters:
    return DeadLetters(fleet.caller.connection, NAMES)


@in_virtual_time
async def test_replayed_message_is_sent_and_its_letter_is_gone() -> None:
    fleet = a_fleet()
    address, letter = await a_letter(fleet)
    assert isinstance(await letters(fleet).examine(letter, now=time.time()), Ready)
    assert fleet.letters(address) == ["exhausted"], "looking changes nothing"
    done = await letters(fleet).replay(letter, Wish("p2", 500), now=time.time())
    assert isinstance(done, Ready)
    assert done.provider == "p2"
    assert codec.unix(fleet.last(address).deadline) == time.time() + 500
    await fleet.pod("p2")
    await fleet.until_idle()
    assert fleet.story(address)[-3:] == ["QUEUED REPLAYED", "SENDING", "SENT"]
    assert codec.unix(fleet.last(address).deadline) > time.time() + 400, "it is carried on"
    assert fleet.letters(address) == []
    assert fleet.took(address) == 1
    await fleet.close()


@pytest.mark.parametrize(
    "step", ["last SMS_EVENT", "publish sms.event", "publish sms.send", "api STREAM.MSG.DELETE.SMS_DLQ"]
)
@pytest.mark.parametrize("moment", ["before", "after"])
@in_virtual_time
async def test_replay_that_crashed_is_taken_up_and_the_message_is_sent_once(moment: str, step: str) -> None:
    fleet = a_fleet()
    address, letter = await a_letter(fleet)

    def crash(taken: str) -> None:
        if taken == f"{moment} {step}":
            raise Crash

    with pytest.raises(Crash):
        await DeadLetters(Process(fleet.stream, crash).connection, NAMES).replay(letter, now=time.time())
    again = await letters(fleet).replay(letter, now=time.time())
    assert isinstance(again, Ready)
    for name in NAMES:
        await fleet.pod(name)
    await fleet.until_idle()
    assert fleet.story(address).count("QUEUED REPLAYED") == 1
    assert fleet.story(address)[-1] == "SENT"
    assert fleet.letters(address) == []
    assert fleet.took(address) == 1
    await fleet.close()


@in_virtual_time
async def test_of_two_replays_at_once_one_finds_that_something_has_happened() -> None:
    fleet = a_fleet()
    address, letter = await a_letter(fleet)
    found = await asyncio.gather(*(letters(fleet).replay(letter, now=time.time()) for _ in range(2)))
    assert sorted(type(one).__name__ for one in found) == ["Ready", "Stays"]
    assert len(fleet.stream.log(topo.SEND).messages) == 1
    assert fleet.letters(address) == []


@in_virtual_time
async def test_letter_stays_where_a_replay_would_be_wrong() -> None:
    fleet = a_fleet()
    address, letter = await a_letter(fleet)
    now = time.time()
    refused = {
        "configured": await letters(fleet).replay(letter, Wish("p9"), now=now),
        "deadline": await letters(fleet).replay(letter, now=now + 1000),
    }
    await letters(fleet).replay(letter, now=now)
    await fleet.pod()
    await fleet.pod("p2")
    await fleet.until_idle()
    refused["has changed since"] = await letters(fleet).replay(letter, now=now)
    for record in list(fleet.stream.log(topo.EVENT).messages):
        fleet.stream.log(topo.EVENT).remove(record)
    refused["no longer has its events"] = await letters(fleet).replay(letter, now=now)
    for word, one in refused.items():
        assert isinstance(one, Stays), word
        assert word in one.why
    assert fleet.took(address) == 1
    await fleet.close()


@in_virtual_time
async def test_letters_are_counted_walked_by_provider_and_reason_and_discarded() -> None:
    fleet = a_fleet()
    addresses = [(await a_letter(fleet, "a"))[0]]
    fleet.providers["p1"].calls.clear()
    fleet.providers["p2"].calls.clear()
    addresses.append((await a_letter(fleet, "a"))[0])
    connection = fleet.caller.connection
    await connection.publish("sms.dlq.p1.unreadable.no.address", b"x")
    await connection.publish(topo.dlq_subject("p2", "expired", addresses[0]), b"\xff")
    one = letters(fleet)
    assert sum((await one.counts()).values()) == 4
    walked = [letter async for letter in one.walk()]
    assert [letter.address for letter in walked] == [*addresses, addresses[0]]
    assert walked[2].content.reason == "UNREADABLE"
    assert isinstance(await one.examine(walked[2], now=time.time()), Stays)
    [expired] = [letter async for letter in one.walk("p2", "EXPIRED")]
    assert await one.discard(expired, "ann", now=time.time())
    assert not await one.discard(expired, "ann", now=time.time())
    assert [letter async for letter in one.walk("p2", "EXPIRED")] == []
    assert fleet.last(addresses[0]).state == pb.MESSAGE_STATE_FAILED, "the message stays what it is"
    await fleet.close()


@in_virtual_time
async def test_discard_and_its_author_stand_in_the_story_and_change_no_state() -> None:
    fleet = a_fleet()
    address, letter = await a_letter(fleet)
    before = fleet.last(address)
    assert await letters(fleet).discard(letter, "ann", now=time.time())
    after = fleet.last(address)
    assert (after.state, after.reason) == (before.state, before.reason)
    assert after.detail == f"{before.detail}; ann discarded its dead letter"
    assert fleet.story(address)[-2:] == ["FAILED EXHAUSTED", "FAILED EXHAUSTED"]
    assert fleet.letters(address) == []
    await fleet.close()


@in_virtual_time
async def test_discard_of_a_letter_whose_message_was_replayed_writes_nothing() -> None:
    fleet = a_fleet()
    address, letter = await a_letter(fleet)
    await letters(fleet).replay(letter, Wish(author="ben"), now=time.time())
    assert fleet.last(address).detail == "ben put it back into a queue"
    told = fleet.story(address)
    await letters(fleet).discard(letter, "ann", now=time.time())
    assert fleet.story(address) == told
    await fleet.close()


@in_virtual_time
async def test_replay_goes_beyond_the_callers_providers_only_when_told_so() -> None:
    fleet = a_fleet()
    _, letter = await a_letter(fleet)
    letter.content.command.providers.append("p1")
    now = time.time()
    refused = await letters(fleet).replay(letter, Wish("p2"), now=now)
    assert isinstance(refused, Stays)
    assert "--over-callers-choice" in refused.why
    done = await letters(fleet).replay(letter, Wish("p2", over_callers_choice=True), now=now)
    assert isinstance(done, Ready)
    assert (done.provider, list(done.entry.command.providers)) == ("p2", ["p2", "p1"])
    await fleet.close()


@in_virtual_time
async def test_letters_given_up_before_a_time_are_left_out() -> None:
    fleet = a_fleet()
    _, letter = await a_letter(fleet)
    at = codec.unix(letter.content.time)
    one = letters(fleet)
    assert [found async for found in one.walk(since=at)] == [letter]
    assert [found async for found in one.walk(since=at + 0.001)] == []


@pytest.mark.parametrize("token", ["*", ">", "p1.*", "a b", ""])
@in_virtual_time
async def test_wildcard_is_no_name_of_a_provider_or_reason(token: str) -> None:
    fleet = a_fleet()
    for walk in (letters(fleet).walk(provider=token), letters(fleet).walk(reason=token)):
        with pytest.raises(ValueError, match="only letters"):
            await anext(walk)


@in_virtual_time
async def test_letters_under_strange_subjects_are_counted_and_passed_over() -> None:
    fleet = a_fleet()
    for subject in ("sms.dlq.x", "sms.dlq.p1.reason", "sms.dlq.p1.reason.a.b.c.d", "sms.dlq.p1.reason.a.b.c"):
        await fleet.caller.connection.publish(subject, b"{")
    counts = await letters(fleet).counts()
    assert sum(counts.values()) == 4
    assert [letter async for letter in letters(fleet).walk()] == []


@in_virtual_time
async def test_letter_whose_message_has_an_unreadable_event_stays() -> None:
    fleet = a_fleet()
    address, letter = await a_letter(fleet)
    await fleet.caller.connection.publish(topo.event_subject(address), b"{")
    found = await letters(fleet).examine(letter, now=time.time())
    assert isinstance(found, Stays)
    assert "cannot be read" in found.why
