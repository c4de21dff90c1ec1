"""Pods whose provider puts off one message, all messages, or refuses everything for good."""

import asyncio
import itertools
import re
import time

import pytest

from dispatcher.breaker.breaker import Breaker, BreakerLimits
from messaging import codec
from messaging.documents import REFUSED, THROTTLED, BreakerState, Mode
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from providers.base import THROTTLED as PUT_OFF
from providers.base import Outcome
from tests.unit import fake_provider
from tests.unit.fake_provider import Reply
from tests.unit.small_fleet import FLEET, SmallFleet
from tests.unit.virtual_time import in_virtual_time

SENDING, SENT = "SENDING", "SENT"
LIMITS = BreakerLimits()
HOUR = Outcome(PUT_OFF, code="429", detail="too many", retry_after_s=3600.0)


def board(fleet: SmallFleet) -> BreakerBoard:
    return BreakerBoard(Bucket(fleet.caller.connection, topo.BREAKERS_BUCKET))


@in_virtual_time
async def test_message_that_is_always_put_off_does_not_hold_up_the_others_and_moves() -> None:
    fleet = SmallFleet({"p1": {"hostage": [Reply.THROTTLES] * 100}})
    for name in ("p1", "p2"):
        await fleet.pod(name)
    hostage = await fleet.accept("hostage")
    others = [await fleet.accept(str(number)) for number in range(200)]
    assert await fleet.until_idle() < 15
    assert all(fleet.story(one) == [SENDING, SENT] for one in others)
    assert fleet.story(hostage)[-1] == SENT
    assert fleet.last(hostage).provider == "p2"
    assert fleet.providers["p1"].calls.count("hostage") == 3
    await fleet.close()


@in_virtual_time
async def test_quota_that_is_used_up_opens_the_breaker_with_its_reason_and_waiting_messages_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(fake_provider._OUTCOMES, Reply.THROTTLES, HOUR)
    texts = [str(number) for number in range(40)]
    fleet = SmallFleet({"p1": {text: [Reply.THROTTLES] * 9 for text in texts}})
    for name in ("p1", "p2"):
        await fleet.pod(name)
    codes = [await fleet.accept(text) for text in texts]
    assert await fleet.until_idle() < 15
    assert all(fleet.story(one)[-1] == SENT and fleet.last(one).provider == "p2" for one in codes)
    _, state = await board(fleet).breaker("p1")
    assert (state.mode, state.cause) == (Mode.OPEN, THROTTLED)
    assert "code 429" in state.reason
    assert re.search(r"until \d\d:\d\d:\d\d UTC, the provider wants 3600 s", state.reason)
    await fleet.close()


@in_virtual_time
async def test_operator_ends_a_long_pause_by_closing_the_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fake_provider._OUTCOMES, Reply.THROTTLES, HOUR)
    fleet = SmallFleet({"p1": {text: [Reply.THROTTLES] for text in "ab"}})
    pod = await fleet.pod()
    for text in "ab":
        await fleet.accept(text, providers=["p1"], ttl_s=300)
    await asyncio.sleep(8)
    revision, state = await board(fleet).breaker("p1")
    assert state.mode is Mode.OPEN
    address = await fleet.accept("next", providers=["p1"], ttl_s=300)
    await asyncio.sleep(20)
    assert not fleet.story(address)
    await board(fleet).set_breaker("p1", BreakerState(generation=state.generation + 1), revision)
    await board(fleet).end_pause("p1")
    await asyncio.sleep(2)
    assert fleet.story(address) == [SENDING, SENT]
    assert pod.pacer.paused_s == 0
    await fleet.close()


def test_restart_does_not_begin_a_pause_anew() -> None:
    state = BreakerState(Mode.OPEN, 3, "throttled", cause=THROTTLED, until=5000.0)
    started_late = Breaker("pod-2", LIMITS)
    started_late.adopt(state, 100.0, 4990.0)
    assert started_late.due_change(109.0) is None
    change = started_late.due_change(110.0)
    assert change is not None
    assert change.mode is Mode.HALF_OPEN


@in_virtual_time
async def test_short_pause_ends_when_it_was_to_end_whoever_starts_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Outcome(PUT_OFF, code="429", detail="too many", retry_after_s=5.0)
    monkeypatch.setitem(fake_provider._OUTCOMES, Reply.THROTTLES, short)
    fleet = SmallFleet({"p1": {"a": [Reply.THROTTLES]}})
    first = await fleet.pod()
    await fleet.accept("a", providers=["p1"])
    await asyncio.sleep(1)
    _, pause = await board(fleet).pause("p1")
    assert pause is not None
    assert pause.reason == "throttled with code 429"
    await first.process.kill()
    await asyncio.sleep(pause.until - time.time() - 1)
    other = await fleet.accept("b", providers=["p1"])
    await fleet.pod()
    await asyncio.sleep(2)
    assert fleet.story(other) == [SENDING, SENT]
    assert 0 <= codec.unix(fleet.last(other).attempts[0].start_time) - pause.until < 0.5
    await fleet.close()


@in_virtual_time
async def test_breaker_tells_since_when_it_is_not_closed_through_its_probes() -> None:
    fleet = SmallFleet({"p1": {str(number): [Reply.FAULTY] * 9 for number in range(9)}})
    await fleet.pod("p1")
    for number in range(FLEET.breaker_failures):
        await fleet.accept(str(number), providers=["p1"])
    began = time.time()
    await asyncio.sleep(1)
    _, opened = await board(fleet).breaker("p1")
    assert opened.mode is Mode.OPEN
    assert began <= opened.since <= began + 1
    await asyncio.sleep(3 * FLEET.breaker_cooldown_s)
    _, later = await board(fleet).breaker("p1")
    assert later.generation > opened.generation + 1, "a probe has failed"
    assert later.since == opened.since
    revision, _ = await board(fleet).breaker("p1")
    await board(fleet).set_breaker("p1", BreakerState(generation=later.generation + 1), revision)
    await asyncio.sleep(20)
    _, again = await board(fleet).breaker("p1")
    assert again.mode is Mode.OPEN
    assert again.since > later.since + 5, "it was closed meanwhile"
    await fleet.close()


def test_time_that_no_clock_can_mean_holds_a_breaker_for_an_hour_at_most() -> None:
    breaker = Breaker("pod-1", LIMITS)
    breaker.adopt(BreakerState(Mode.OPEN, 3, until=2.0**39), 0.0, 1_700_000_000.0)
    assert breaker.due_change(3599.0) is None
    assert breaker.due_change(3600.0) is not None


@in_virtual_time
async def test_provider_that_refuses_everything_ends_few_messages_and_the_others_are_sent_elsewhere() -> None:
    texts = [str(number) for number in range(40)]
    fleet = SmallFleet({"p1": {text: [Reply.REFUSES] * 9 for text in texts}})
    for name in ("p1", "p2"):
        await fleet.pod(name)
    addresses = [await fleet.accept(text, recipient=f"+23320{number:07}") for number, text in enumerate(texts)]
    await fleet.until_idle()
    stories = [fleet.story(one)[-1] for one in addresses]
    assert stories.count("FAILED REFUSED") == FLEET.breaker_refusals - 1
    assert stories.count(SENT) == len(texts) - FLEET.breaker_refusals + 1
    _, state = await board(fleet).breaker("p1")
    assert (state.mode, state.cause) == (Mode.OPEN, REFUSED)
    assert "with code 400" in state.reason
    await fleet.close()


@in_virtual_time
async def test_pods_that_count_refusals_apart_end_at_most_as_many_messages_as_their_limits_together() -> None:
    pods, texts = 3, [str(number) for number in range(90)]
    fleet = SmallFleet({"p1": {text: [Reply.REFUSES] * 9 for text in texts}})
    for name in ("p1",) * pods + ("p2",):
        await fleet.pod(name)
    addresses = [await fleet.accept(text, recipient=f"+23320{number:07}") for number, text in enumerate(texts)]
    await fleet.until_idle()
    stories = [fleet.story(one)[-1] for one in addresses]
    assert FLEET.breaker_refusals - 1 <= stories.count("FAILED REFUSED") <= pods * (FLEET.breaker_refusals - 1)
    assert stories.count(SENT) == len(texts) - stories.count("FAILED REFUSED")
    await fleet.close()


@in_virtual_time
async def test_probe_that_is_refused_too_keeps_the_breaker_open_and_its_message() -> None:
    fleet = SmallFleet({"p1": {"probe": [Reply.REFUSES]}})
    await fleet.pod("p1")
    await board(fleet).set_breaker("p1", BreakerState(Mode.OPEN, 1, "refused", cause=REFUSED), 0)
    address = await fleet.accept("probe", providers=["p1"])
    await asyncio.sleep(FLEET.breaker_cooldown_s + 2)
    assert fleet.story(address) == [SENDING, "QUEUED REFUSED_ALIKE"]
    _, state = await board(fleet).breaker("p1")
    assert (state.mode, state.cause) == (Mode.OPEN, REFUSED)
    await fleet.close()


@in_virtual_time
async def test_message_that_two_providers_refuse_is_refused_even_by_one_that_refuses_everything() -> None:
    texts = [str(number) for number in range(FLEET.breaker_refusals)]
    fleet = SmallFleet({"p1": {text: [Reply.REFUSES] for text in texts}, "p2": {texts[-1]: [Reply.REFUSES]}})
    await fleet.pod("p1")
    addresses = []
    for number, text in enumerate(texts):
        addresses.append(await fleet.accept(text, recipient=f"+23320{number:07}"))
        await asyncio.sleep(0.5)
    await board(fleet).set_breaker("p2", BreakerState(Mode.OPEN, 1, "refused", cause=REFUSED), 0)
    await fleet.pod("p2")
    await fleet.until_idle()
    assert fleet.story(addresses[-1]) == [SENDING, "QUEUED REFUSED_ALIKE", SENDING, "FAILED REFUSED"]
    await fleet.close()


@in_virtual_time
async def test_probe_that_is_put_off_keeps_the_breaker_open_for_as_long_as_it_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(fake_provider._OUTCOMES, Reply.THROTTLES, HOUR)
    fleet = SmallFleet({"p1": {"probe": [Reply.THROTTLES]}})
    await fleet.pod("p1")
    await board(fleet).set_breaker("p1", BreakerState(Mode.OPEN, 1, "throttled", cause=THROTTLED), 0)
    await fleet.accept("probe", providers=["p1"], ttl_s=300)
    await asyncio.sleep(FLEET.breaker_cooldown_s + 2)
    _, state = await board(fleet).breaker("p1")
    assert (state.mode, state.cause) == (Mode.OPEN, THROTTLED)
    assert 3590 < state.until - time.time() <= 3600
    await fleet.close()


@in_virtual_time
async def test_message_that_is_put_off_waits_before_it_asks_again() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.THROTTLES] * 2}})
    await fleet.pod("p1")
    address = await fleet.accept("a", providers=["p1"])
    assert await fleet.until_idle() >= 2 * fake_provider.PAUSE_S
    starts = [codec.unix(one.start_time) for one in fleet.last(address).attempts]
    assert all(later - earlier >= fake_provider.PAUSE_S for earlier, later in itertools.pairwise(starts))
    await fleet.close()
