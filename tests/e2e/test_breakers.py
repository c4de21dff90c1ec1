"""A provider that keeps failing gets no messages until a probe succeeds; its messages go to other providers."""

import asyncio

import pytest
from rig import NORMAL, Rig, eventually
from sms.gateway.v1 import gateway_pb2 as api

from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from messaging.stream.connection import open_connection


async def breaker(rig: Rig, provider: str) -> str:
    async with open_connection(rig.system.environment["SMSGW_NATS_URL"], "test") as connection:
        _, state = await BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET)).breaker(provider)
    return str(state.mode)


async def until_breaker(rig: Rig, provider: str, state: str) -> None:
    async def has_state() -> bool:
        return await breaker(rig, provider) == state

    await eventually(has_state, what=f"{provider} {state}")


async def until_closed_by_probes(rig: Rig, provider: str) -> None:
    async def closed() -> bool:
        await rig.send(providers=[provider])
        return await breaker(rig, provider) == "closed"

    await eventually(closed)


async def test_routing_avoids_an_open_breaker_which_closes_after_a_probe(rig: Rig) -> None:
    await rig.behave("p3", force="unavailable")
    first = [(await rig.send(providers=["p3", "p1"])).message_id for _ in range(6)]
    for one in first:
        assert (await rig.until(one, "SENT")).provider == "p1"
    await until_breaker(rig, "p3", "open")
    routed: list[api.SendSmsResponse] = []

    async def failed_over() -> bool:
        routed[:] = [one.accepted for one in await rig.batch(rig.load(20))]
        # Half-open, one message at a time may be routed there as a probe; it fails over as well.
        return sum(one.provider == "p3" for one in routed) <= 2

    await eventually(failed_over)
    for one in routed:
        assert (await rig.until(one.message_id, "SENT")).provider != "p3"
    tried = [one for one in await rig.received([one.message_id for one in routed]) if one["provider"] == "p3"]
    assert len(tried) <= 3
    await rig.behave("p3")
    await until_closed_by_probes(rig, "p3")
    answer = await rig.send(providers=["p3"])
    assert (await rig.until(answer.message_id, "SENT")).provider == "p3"


async def test_waiting_messages_move_to_providers_with_room(rig: Rig) -> None:
    results = await rig.batch(rig.load(300, providers=["p2", "p4"], priority=NORMAL))
    ids = {one.accepted.message_id for one in results}
    assert {one.accepted.provider for one in results} == {"p2"}
    await rig.behave("p2", force="unavailable")
    await until_breaker(rig, "p2", "open")
    seen = await rig.until_received(300, ids, 60)
    taken = [one for one in seen if one["taken"]]
    assert sum(one["provider"] == "p4" for one in taken) > 150
    refused = {one["reference"] for one in seen if one["provider"] == "p2"}
    moved = next(one["reference"] for one in taken if one["provider"] == "p4" and one["reference"] not in refused)
    status = await rig.until(moved, "SENT")
    assert [one.provider for one in status.attempts] == ["p4"]
    await rig.behave("p2")
    await until_closed_by_probes(rig, "p2")


@pytest.mark.parametrize(("fault", "suffix"), [("throttle", "0321"), ("bad_request", "0322")])
async def test_throttling_and_few_refused_recipients_do_not_open_a_breaker(rig: Rig, fault: str, suffix: str) -> None:
    await rig.behave("p5", by_suffix={suffix: fault}, retry_after_s=0)
    sending = (rig.send(recipient=rig.number(suffix), providers=["p5"]) for _ in range(7))
    ids = [answer.message_id for answer in await asyncio.gather(*sending)]

    async def as_many_as_would_open_the_breaker() -> bool:
        return len(await rig.received(ids)) >= 5

    await eventually(as_many_as_would_open_the_breaker)
    await asyncio.sleep(1)  # time for the breaker to open
    assert await breaker(rig, "p5") == "closed"
    await rig.behave("p5")


async def test_message_in_a_long_call_is_not_redelivered(rig: Rig) -> None:
    # p5 takes longer than the ack wait.
    await rig.behave("p5", latency_s=6.0)
    answer = await rig.send(providers=["p5"])
    status = await rig.until(answer.message_id, "SENT")
    assert len(status.attempts) == 1
    assert len(await rig.received([answer.message_id])) == 1
