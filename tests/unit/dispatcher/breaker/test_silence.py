"""A provider that has fallen silent is noticed before its calls time out; one that is slow is not taken for silent."""

import asyncio

import pytest
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.breaker.silence import Silence
from messaging.model import FINAL_STATES
from tests.unit import small_fleet
from tests.unit.fake_provider import Reply
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


def answered(silence: Silence, took_s: float, count: int = 10, until: float = 100.0) -> None:
    for number in range(count):
        began = until - took_s - 0.01 * (count - number)
        silence.ended(silence.began(began), began + took_s, answered=True)


def waiting(silence: Silence, since: float, count: int = 3) -> list[int]:
    return [silence.began(since) for _ in range(count)]


def test_several_calls_without_an_answer_are_silence_after_two_seconds() -> None:
    silence = Silence()
    answered(silence, 0.05)
    waiting(silence, 100.0)
    assert not silence.is_silent(102.0)
    assert silence.is_silent(102.1)


def test_first_answer_ends_the_silence_and_so_does_the_end_of_the_calls() -> None:
    for answer in (True, False):
        silence = Silence()
        answered(silence, 0.05)
        first, *_ = waiting(silence, 100.0)
        assert silence.is_silent(103.0)
        silence.ended(first, 103.0, answered=answer)
        assert not silence.is_silent(103.0)


@pytest.mark.parametrize("usual_s", [0.6, 3.0, 10.0])
def test_provider_that_is_always_slow_is_not_silent(usual_s: float) -> None:
    silence = Silence()
    answered(silence, usual_s)
    waiting(silence, 100.0)
    assert not silence.is_silent(100.0 + 3.9 * usual_s)
    assert silence.is_silent(100.1 + 4 * usual_s)


def test_nothing_is_said_about_a_provider_that_has_not_answered_yet_or_not_lately() -> None:
    silence = Silence()
    waiting(silence, 100.0)
    assert not silence.is_silent(109.0)
    silence = Silence()
    answered(silence, 0.05)
    waiting(silence, 200.0)
    assert not silence.is_silent(209.0)


def test_one_or_two_lost_calls_are_no_silence() -> None:
    silence = Silence()
    answered(silence, 0.05)
    waiting(silence, 100.0, count=2)
    assert not silence.is_silent(109.0)


@in_virtual_time
async def test_messages_behind_a_silent_provider_are_sent_by_another_within_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(small_fleet, "TIMEOUT_S", 10.0)
    fleet = SmallFleet({"p1": {"lost": [Reply.HANGS] * 999}})
    pod = await fleet.pod("p1")
    await fleet.pod("p2")
    pod.pacer.set_share(20)
    for _ in range(20):
        await fleet.accept("a", priority=pb.PRIORITY_NORMAL)
    await fleet.until_idle()
    addresses = [await fleet.accept("lost", priority=pb.PRIORITY_NORMAL, ttl_s=60.0) for _ in range(120)]
    await asyncio.sleep(5)
    sent = [one for one in addresses if fleet.last(one).state == pb.MESSAGE_STATE_SENT]
    unclear = [one for one in addresses if fleet.last(one).state == pb.MESSAGE_STATE_SENDING]
    assert len(sent) + len(unclear) == len(addresses)
    assert len(unclear) <= 2.5 * 20  # what was written until the silence was noticed
    assert pod.breaker.silent
    await asyncio.sleep(70)
    assert not pod.breaker.silent
    assert all(fleet.last(one).state in FINAL_STATES | {pb.MESSAGE_STATE_SENT} for one in sent)
    assert all(fleet.took(one) == 1 for one in addresses)
    await fleet.close()
