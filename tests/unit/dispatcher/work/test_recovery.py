"""What a pod records about an attempt that only a look-up can settle, and what a look-up costs."""

import asyncio

import attrs
import pytest
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from providers.base import ACCEPTED, Outcome
from tests.unit.fake_provider import LATE_S, FakeProviderClient, Reply
from tests.unit.small_fleet import FLEET, SmallFleet
from tests.unit.virtual_time import in_virtual_time

HOLD = attrs.evolve(FLEET, ambiguous_otp="hold")
SENDING, SENT = "SENDING", "SENT"


@in_virtual_time
async def test_message_ends_as_unknown_after_a_look_up_that_did_not_find_it_because_an_attempt_stays_unclear() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.LOSES]}}, HOLD, can_look_up=True)
    await fleet.pod()
    address = await fleet.accept("a", providers=["p1"], ttl_s=FLEET.lookup_after_s + 1)
    await fleet.until_idle()
    assert fleet.story(address) == [SENDING, "SENDING UNCLEAR", "UNKNOWN UNKNOWN"]
    await fleet.close()


@pytest.mark.parametrize(("reply", "taken_by"), [(Reply.TAKES_LATE, "p1"), (Reply.LOSES, "p2")])
@in_virtual_time
async def test_no_of_a_look_up_counts_only_when_nothing_of_the_attempt_can_arrive_any_more(
    reply: Reply, taken_by: str
) -> None:
    fleet = SmallFleet({"p1": {"a": [reply]}}, HOLD, can_look_up=True, missing_after_s=LATE_S + 3)
    for name in ("p1", "p2"):
        await fleet.pod(name)
    address = await fleet.accept("a")
    await fleet.until_idle()
    last = fleet.last(address)
    assert (fleet.story(address)[-1], last.provider, fleet.took(address)) == (SENT, taken_by, 1)
    if reply is Reply.LOSES:
        first, second = last.attempts
        assert first.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS, "the story does not deny the first attempt"
        waited_s = codec.unix(second.start_time) - codec.unix(first.end_time)
        assert LATE_S + 3 <= waited_s < LATE_S + 5, "asked right when the no counts, not at the next doubled wait"
    await fleet.close()


@in_virtual_time
async def test_yes_of_a_look_up_counts_at_once() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.TAKES_UNHEARD]}}, HOLD, can_look_up=True, missing_after_s=1000.0)
    await fleet.pod()
    address = await fleet.accept("a")
    assert await fleet.until_idle() < HOLD.lookup_after_s + 1
    assert fleet.story(address) == [SENDING, "SENDING UNCLEAR", SENT]
    await fleet.close()


@in_virtual_time
async def test_look_up_takes_a_place_in_the_rate() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.TAKES_UNHEARD]}}, HOLD, can_look_up=True)
    pod = await fleet.pod()
    await fleet.accept("a")
    await fleet.until_idle()
    assert pod.pacer.sent_units == 2
    await fleet.close()


@in_virtual_time
async def test_look_ups_of_many_messages_are_no_faster_than_the_rate_and_let_sends_pass() -> None:
    texts = [str(number) for number in range(10)]
    patient = attrs.evolve(HOLD, breaker_failures=100)
    fleet = SmallFleet({"p1": {text: [Reply.TAKES_UNHEARD] for text in texts}}, patient, can_look_up=True)
    pod = await fleet.pod()
    for text in texts:
        await fleet.accept(text)
    await asyncio.sleep(1)
    pod.pacer.set_share(1)
    await asyncio.sleep(HOLD.lookup_after_s - 1)
    before = pod.pacer.sent_units
    late = [await fleet.accept(f"later {number}") for number in range(3)]
    await asyncio.sleep(8)
    assert pod.pacer.sent_units - before <= 9, "one a second, look-ups and sends together"
    assert all(fleet.story(address)[-1] == SENT for address in late)
    await fleet.close()


@in_virtual_time
async def test_look_up_that_gets_no_permit_says_nothing_and_ends_no_message_late() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.TAKES_UNHEARD]}}, HOLD, can_look_up=True)
    pod = await fleet.pod()
    address = await fleet.accept("a", ttl_s=20)
    await asyncio.sleep(1)
    pod.pacer.give_up()
    assert await fleet.until_idle() <= 20 + 1
    assert fleet.story(address)[-1] == "UNKNOWN UNKNOWN"
    await fleet.close()


@in_virtual_time
async def test_id_that_a_look_up_finds_is_masked_when_it_repeats_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: object) -> Outcome:
        return Outcome(ACCEPTED, "id-00233-20-123-4567", "0201234567")

    monkeypatch.setattr(FakeProviderClient, "look_up", look_up)
    fleet = SmallFleet({"p1": {"a": [Reply.TAKES_UNHEARD]}}, HOLD, can_look_up=True)
    await fleet.pod()
    address = await fleet.accept("a", providers=["p1"])
    await fleet.until_idle()
    assert fleet.story(address)[-1] == "SENT"
    (attempt,) = fleet.events(address)[-1].attempts
    assert (attempt.provider_message_id, attempt.code) == ("****", "")
    await fleet.close()
