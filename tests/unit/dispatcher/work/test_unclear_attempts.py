"""Attempts with an unclear outcome, and redelivered messages: who checks, waits and decides."""

import asyncio

import attrs
import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.attempt import GATE_WAIT_S
from messaging import codec
from messaging.runtime.config import FleetSettings
from messaging.stream import topology as topo
from tests.memory_stream import Crash
from tests.unit.fake_provider import Reply
from tests.unit.small_fleet import ACK_WAIT_S, FLEET, TIMEOUT_S, TTL_S, SmallFleet
from tests.unit.virtual_time import in_virtual_time

HOLD = attrs.evolve(FLEET, ambiguous_otp="hold")
SENDING, SENT = "SENDING", "SENT"


@in_virtual_time
async def test_unclear_message_is_held_to_its_deadline_where_nobody_can_be_asked() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.TAKES_UNHEARD]}}, HOLD)
    await fleet.pod()
    address = await fleet.accept("a")
    took_s = await fleet.until_idle()
    assert fleet.story(address) == [SENDING, "SENDING UNCLEAR", "UNKNOWN UNKNOWN"]
    assert fleet.letters(address) == ["unknown"]
    assert TTL_S - 1 <= took_s <= TTL_S + 2
    assert fleet.providers["p1"].calls == ["a"]
    await fleet.close()


@pytest.mark.parametrize(
    ("reply", "story"),
    [
        (Reply.TAKES_UNHEARD, [SENDING, "SENDING UNCLEAR", SENT]),
        (Reply.LOSES, [SENDING, "SENDING UNCLEAR", "QUEUED TRANSIENT", SENDING, SENT]),
    ],
)
@in_virtual_time
async def test_unclear_message_is_asked_about_where_that_is_possible(reply: Reply, story: list[str]) -> None:
    fleet = SmallFleet({"p1": {"a": [reply]}}, HOLD, can_look_up=True)
    for name in ("p1", "p2"):
        await fleet.pod(name)
    address = await fleet.accept("a")
    await fleet.until_idle()
    assert fleet.story(address) == story
    assert fleet.took(address) == 1
    await fleet.close()


@in_virtual_time
async def test_call_that_outlasts_the_drain_is_cut_and_unclear() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.HANGS]}}, HOLD)
    fleet.settings = attrs.evolve(fleet.settings, process=attrs.evolve(fleet.settings.process, drain_s=1.5))
    pod = await fleet.pod()
    address = await fleet.accept("a")
    await asyncio.sleep(0.1)
    await pod.stop()
    assert fleet.story(address) == [SENDING, "SENDING UNCLEAR"]
    assert fleet.last(address).attempts[0].code == "cut"
    await fleet.close()


@in_virtual_time
async def test_job_that_breaks_is_left_for_redelivery_and_the_others_go_on() -> None:
    broken = iter([True])

    def breaks_once(step: str) -> None:
        if step == "before call" and next(broken, False):
            raise RuntimeError

    fleet = SmallFleet(fleet=HOLD)
    await fleet.pod("p1", breaks_once)
    address, other = await fleet.accept("a"), await fleet.accept("b")
    await asyncio.sleep(1)
    assert (fleet.story(address), fleet.story(other)) == ([SENDING], [SENDING, SENT])
    await asyncio.sleep(ACK_WAIT_S + TIMEOUT_S + 6)
    assert fleet.story(address) == [SENDING, "SENDING UNCLEAR"]
    await fleet.close()


@in_virtual_time
async def test_old_entry_of_a_message_that_has_moved_on_is_acknowledged_and_nothing_else() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.FAILS]}})
    for name in ("p1", "p2"):
        await fleet.pod(name)
    address = await fleet.accept("a")
    await fleet.until_idle()
    command = fleet.commands()[address]
    before = fleet.events(address)
    for entry in (
        wire.QueueEntry(command=command),
        wire.QueueEntry(command=command, last=before[1], last_sequence=2),
        wire.QueueEntry(command=command, last=before[2], last_sequence=3),
    ):
        await fleet.publisher.enqueue(entry, address, "p1", "otp")
        await asyncio.sleep(0.5)
    assert fleet.events(address) == before
    assert fleet.idle
    assert fleet.took(address) == 1
    await fleet.close()


@pytest.mark.parametrize(
    ("policy", "story"),
    [
        (HOLD, [SENDING, "SENDING UNCLEAR", SENT]),
        (FLEET, [SENDING, "QUEUED UNCLEAR_RESENT", SENDING, SENT]),
    ],
)
@in_virtual_time
async def test_answer_that_comes_after_another_pod_called_it_unclear_is_written_where_that_still_helps(
    policy: FleetSettings, story: list[str]
) -> None:
    fleet = SmallFleet(fleet=policy)

    def cut_off(step: str) -> None:
        if step == "after write":
            pod.process.connection.cut()
            asyncio.get_running_loop().call_later(15, pod.process.connection.mend)

    pod = await fleet.pod("p1", cut_off)
    address = await fleet.accept("a")
    await asyncio.sleep(1)
    for name in ("p1", "p2"):
        await fleet.pod(name)
    await asyncio.sleep(30)
    assert fleet.story(address) == story
    await fleet.until_idle()
    assert fleet.story(address) == story, "a held message is redelivered at its deadline, without effect"
    await fleet.close()


@in_virtual_time
async def test_attempt_that_may_still_end_is_not_called_unclear_and_its_answer_is_found() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.TAKES_SLOWLY]}}, attrs.evolve(FLEET, ack_wait_s=2.0))

    def cut_off(step: str) -> None:
        if step == "after write":
            pod.process.connection.cut()
            asyncio.get_running_loop().call_later(4, pod.process.connection.mend)

    pod = await fleet.pod("p1", cut_off)
    address = await fleet.accept("a")
    await asyncio.sleep(0.5)
    await fleet.pod("p1")
    await asyncio.sleep(3)
    assert fleet.stream.queue(topo.SEND, "dispatch-p1-otp").info()["num_redelivered"] == 1
    await fleet.until_idle()
    assert fleet.story(address) == [SENDING, SENT]
    assert fleet.providers["p1"].calls == ["a"]
    await fleet.close()


@in_virtual_time
async def test_attempt_whose_pod_vanished_is_called_unclear_when_it_must_have_ended() -> None:
    fleet = SmallFleet(fleet=attrs.evolve(HOLD, ack_wait_s=2.0))

    def crash(step: str) -> None:
        if step == "before call":
            raise Crash

    pod = await fleet.pod("p1", crash)
    address = await fleet.accept("a")
    await pod.process.crashed.wait()
    await pod.process.kill()
    await fleet.pod("p1")
    await asyncio.sleep(15)
    assert fleet.story(address) == [SENDING, "SENDING UNCLEAR"]
    attempt = fleet.last(address).attempts[0]
    assert attempt.code == "vanished"
    assert codec.unix(attempt.end_time) >= codec.unix(attempt.start_time) + TIMEOUT_S + GATE_WAIT_S
    await fleet.close()


@in_virtual_time
async def test_message_that_fails_after_a_look_up_did_not_find_it_is_unknown() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.LOSES]}}, attrs.evolve(HOLD, retry_delays_s=()), can_look_up=True)
    await fleet.pod("p1")
    address = await fleet.accept("a", providers=["p1"])
    await fleet.until_idle()
    assert fleet.story(address) == [SENDING, "SENDING UNCLEAR", "UNKNOWN UNKNOWN"]
    await fleet.close()
