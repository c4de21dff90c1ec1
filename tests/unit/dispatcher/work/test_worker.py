"""Pods on the in-memory stream: from the queue to a provider's answer, and what follows each kind of answer."""

import asyncio
import time

import attrs
import pytest
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.documents import BreakerState, Mode
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from tests.unit.fake_provider import PAUSE_S, Reply
from tests.unit.small_fleet import ACK_WAIT_S, FLEET, SmallFleet
from tests.unit.virtual_time import in_virtual_time

HOLD = attrs.evolve(FLEET, ambiguous_otp="hold")
SENDING, SENT = "SENDING", "SENT"
# The replies of p1, the replies of p2, and the events that follow.
STORIES: dict[str, tuple[list[Reply], list[Reply], list[str]]] = {
    "taken": ([], [], [SENDING, SENT]),
    "taken slowly": ([Reply.TAKES_SLOWLY], [], [SENDING, SENT]),
    "throttled": ([Reply.THROTTLES], [], [SENDING, "QUEUED THROTTLED", SENDING, SENT]),
    "failed": ([Reply.FAILS], [], [SENDING, "QUEUED TRANSIENT", SENDING, SENT]),
    "api key refused": ([Reply.FAULTY], [], [SENDING, "QUEUED PROVIDER_FAULT", SENDING, SENT]),
    "failed at both providers": (
        [Reply.FAILS],
        [Reply.FAILS],
        [SENDING, "QUEUED TRANSIENT", SENDING, "QUEUED TRANSIENT", SENDING, SENT],
    ),
    "failed at every attempt": (
        [Reply.FAILS] * 3,
        [Reply.FAILS] * 3,
        [*[SENDING, "QUEUED TRANSIENT"] * 5, SENDING, "FAILED EXHAUSTED"],
    ),
    "refused": ([Reply.REFUSES], [], [SENDING, "FAILED REFUSED"]),
    "lost": ([Reply.LOSES], [], [SENDING, "QUEUED UNCLEAR_RESENT", SENDING, SENT]),
    "never answered": ([Reply.HANGS], [], [SENDING, "QUEUED UNCLEAR_RESENT", SENDING, SENT]),
    "never taken so that we know it": (
        [Reply.TAKES_UNHEARD] * 9,
        [Reply.TAKES_UNHEARD] * 9,
        [SENDING, "QUEUED UNCLEAR_RESENT", SENDING, "SENDING UNCLEAR", "UNKNOWN UNKNOWN"],
    ),
    "unclear, failed and unclear again": (
        [Reply.TAKES_UNHEARD] * 9,
        [Reply.FAILS],
        [
            SENDING,
            "QUEUED UNCLEAR_RESENT",
            SENDING,
            "QUEUED TRANSIENT",
            SENDING,
            "SENDING UNCLEAR",
            "UNKNOWN UNKNOWN",
        ],
    ),
    "refused after an unclear attempt": (
        [Reply.TAKES_UNHEARD],
        [Reply.REFUSES],
        [SENDING, "QUEUED UNCLEAR_RESENT", SENDING, "UNKNOWN UNKNOWN"],
    ),
}
DEAD_LETTERS = {
    "never taken so that we know it": ["unknown"],
    "unclear, failed and unclear again": ["unknown"],
    "failed at every attempt": ["exhausted"],
    "refused after an unclear attempt": ["unknown"],
}


@pytest.mark.parametrize("name", STORIES)
@in_virtual_time
async def test_message_has_the_events_that_follow_from_the_answers(name: str) -> None:
    first, second, story = STORIES[name]
    fleet = SmallFleet({"p1": {"a": first}, "p2": {"a": second}})
    fleet.duties()
    for provider in ("p1", "p2"):
        await fleet.pod(provider)
    address = await fleet.accept("a")
    await fleet.until_idle()
    assert fleet.story(address) == story
    assert fleet.letters(address) == DEAD_LETTERS.get(name, [])
    last = fleet.last(address)
    assert last.attempt_count == story.count(SENDING) == len(last.attempts)
    assert all(one.HasField("end_time") for one in last.attempts)
    await fleet.close()


@in_virtual_time
async def test_pause_that_a_provider_asks_for_delays_the_next_message_too() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.THROTTLES]}})
    pod = await fleet.pod()
    await fleet.accept("a")
    await asyncio.sleep(1)
    other = await fleet.accept("b")
    assert pod.pacer.paused_s > 0
    assert await fleet.until_idle() >= PAUSE_S - 1
    assert fleet.story(other) == [SENDING, SENT]
    assert codec.unix(fleet.last(other).attempts[0].start_time) >= codec.unix(fleet.last(other).time) - 1
    await fleet.close()


@in_virtual_time
async def test_message_drawn_after_its_deadline_expires_and_is_not_sent() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=5)
    await asyncio.sleep(6)
    await fleet.pod()
    await fleet.until_idle()
    assert fleet.story(address) == ["EXPIRED EXPIRED"]
    assert fleet.letters(address) == ["expired"]
    assert not fleet.took(address)
    await fleet.close()


@in_virtual_time
async def test_message_that_waits_for_a_permit_past_its_deadline_expires() -> None:
    fleet = SmallFleet()
    pod = await fleet.pod()
    pod.pacer.give_up()
    address = await fleet.accept("a", ttl_s=3 * ACK_WAIT_S)
    took_s = await fleet.until_idle()
    assert fleet.story(address) == ["EXPIRED EXPIRED"]
    assert took_s < 3 * ACK_WAIT_S + 1
    await fleet.close()


@in_virtual_time
async def test_messages_that_a_pod_holds_for_long_are_not_redelivered() -> None:
    fleet = SmallFleet()
    for pod in (await fleet.pod(), await fleet.pod()):
        pod.pacer.give_up()
    for number in range(12):
        await fleet.accept(f"{number}", ttl_s=1000)
    await asyncio.sleep(5 * ACK_WAIT_S)
    info = fleet.stream.queue(topo.SEND, "dispatch-p1-otp").info()
    assert info["delivered"]["consumer_seq"] == 12
    assert info["num_redelivered"] == 0
    await fleet.close()


@in_virtual_time
async def test_event_comes_before_the_next_step_and_the_next_step_before_the_acknowledgement() -> None:
    steps: list[str] = []
    fleet = SmallFleet({"p1": {"a": [Reply.FAILS]}})
    await fleet.pod("p1", steps.append)
    await fleet.accept("a")
    await asyncio.sleep(1)
    told = ("after publish sms.event", "after call", "after publish sms.send", "after ack SMS_SEND")
    marker, call, outcome, next_step, ack = [one for one in steps if one in told]
    assert (marker, call, outcome, next_step, ack) == (told[0], told[1], told[0], told[2], told[3])
    await fleet.close()


@in_virtual_time
async def test_stopping_pod_finishes_running_jobs_and_gives_the_other_messages_back() -> None:
    fleet = SmallFleet({"p1": {"slow": [Reply.TAKES_SLOWLY]}})
    pod = await fleet.pod()
    slow = await fleet.accept("slow")
    await asyncio.sleep(0.5)
    pod.pacer.give_up()
    waiting = [await fleet.accept(f"{number}") for number in range(3)]
    await asyncio.sleep(0.2)
    await pod.stop()
    assert fleet.story(slow) == [SENDING, SENT]
    assert not any(fleet.story(address) for address in waiting)
    assert fleet.stream.queue(topo.SEND, "dispatch-p1-otp").info()["num_pending"] == 0
    await fleet.pod()
    assert await fleet.until_idle() < 1, "messages do not wait for the pod that has stopped"
    await fleet.close()


@in_virtual_time
async def test_throttled_message_is_given_back_when_the_pod_stops() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.THROTTLES_SLOWLY]}})
    pod = await fleet.pod("p1", lambda step: pod.stopping.set() if step == "after write" else None)
    address = await fleet.accept("a")
    await pod.running
    assert fleet.story(address) == [SENDING, "QUEUED THROTTLED"]
    await fleet.pod()
    assert await fleet.until_idle() < PAUSE_S + 0.5 < ACK_WAIT_S
    assert fleet.story(address) == [SENDING, "QUEUED THROTTLED", SENDING, SENT]
    await fleet.close()


@in_virtual_time
async def test_message_behind_an_open_breaker_moves_to_a_provider_with_room() -> None:
    fleet = SmallFleet()
    pod = await fleet.pod("p1")
    await fleet.pod("p2")
    board = BreakerBoard(Bucket(fleet.caller.connection, topo.BREAKERS_BUCKET))
    await board.set_breaker("p1", BreakerState(Mode.OPEN, 1, "test", forced=True), 0)
    await asyncio.sleep(1)
    assert pod.breaker.state.mode is Mode.OPEN
    address = await fleet.accept("a")
    await fleet.until_idle()
    assert fleet.story(address) == ["QUEUED BREAKER_OPEN", SENDING, SENT]
    assert fleet.providers["p2"].calls == ["a"]
    await fleet.close()


@in_virtual_time
async def test_message_behind_an_open_breaker_waits_when_no_other_provider_is_allowed() -> None:
    fleet = SmallFleet()
    await fleet.pod("p1")
    board = BreakerBoard(Bucket(fleet.caller.connection, topo.BREAKERS_BUCKET))
    revision = await board.set_breaker("p1", BreakerState(Mode.OPEN, 1, "test", forced=True), 0)
    await asyncio.sleep(1)
    address = await fleet.accept("a", providers=["p1"])
    await asyncio.sleep(2 * ACK_WAIT_S)
    assert not fleet.story(address)
    assert revision is not None
    await board.set_breaker("p1", BreakerState(Mode.CLOSED, 2), revision)
    assert await fleet.until_idle() < 2
    assert fleet.story(address) == [SENDING, SENT]
    await fleet.close()


@in_virtual_time
async def test_failures_open_the_breaker_and_one_probe_closes_it() -> None:
    failures = FLEET.breaker_failures
    fleet = SmallFleet({"p1": {str(number): [Reply.FAILS] for number in range(failures)}})
    pods = [await fleet.pod("p1")]
    fleet.duties()
    for number in range(failures):
        await fleet.accept(str(number), providers=["p1"])
    await asyncio.sleep(1)
    pods.append(await fleet.pod("p1"))
    await asyncio.sleep(1)
    assert {pod.breaker.state.mode for pod in pods} == {Mode.OPEN}
    address = await fleet.accept("next", providers=["p1"])
    await fleet.until_idle()
    assert {pod.breaker.state.mode for pod in pods} == {Mode.CLOSED}
    assert fleet.story(address) == [SENDING, SENT]
    await fleet.close()


@in_virtual_time
async def test_unreadable_entry_goes_to_the_dead_letters_and_does_not_block_the_lane() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("gone")
    await asyncio.sleep(0.1)
    connection = fleet.caller.connection
    await connection.publish(topo.send_subject("p1", "otp", address), b"\xff")
    await connection.publish("sms.send.p1.otp.not-an-address", b"x")
    await fleet.pod()
    other = await fleet.accept("a")
    await asyncio.sleep(1)
    assert fleet.story(other) == [SENDING, SENT]
    assert fleet.letters(address) == ["unreadable"]
    assert not fleet.stream.log(topo.SEND).messages
    await fleet.close()


@in_virtual_time
async def test_entry_older_than_the_kept_events_is_acknowledged_without_an_event() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a")
    await asyncio.sleep(4 * 86_400)
    await fleet.pod()
    await asyncio.sleep(1)
    assert not fleet.stream.log(topo.SEND).messages
    assert not fleet.story(address)
    await fleet.close()


@in_virtual_time
async def test_urgent_messages_go_first_and_bulk_does_not_starve() -> None:
    fleet = SmallFleet()
    pod = await fleet.pod()
    pod.pacer.give_up()
    for number in range(6):
        await fleet.accept(f"bulk {number}", priority=pb.PRIORITY_BULK)
        await fleet.accept(f"otp {number}")
    await asyncio.sleep(1)
    pod.pacer.renewed(float("inf"))
    pod.pacer.set_share(1)
    began = time.monotonic()
    await fleet.until_idle()
    assert time.monotonic() - began >= 10, "one a second"
    first = [call.split()[0] for call in fleet.providers["p1"].calls[:8]]
    assert 1 <= first.count("bulk") <= 3
    await fleet.close()
