"""Servers and processes are killed at the worst moment: accepted messages are sent, and sent ones not again."""

import asyncio
import contextlib
import pathlib
import signal
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rig import BULK, NORMAL, OTP, Rig, eventually, reasons, running, state
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

OUTAGE_S = 15
"""Several times the ack wait, so that records for the history would be redelivered again and again."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    # Calls at p1 are long, so that a test can kill a pod before its call ends.
    tables = {"p1": ["timeout_s = 4"], **{name: ["timeout_s = 2"] for name in ("p2", "p3", "p4", "p5")}}
    environment = {"SMSGW_ACK_WAIT_S": "3", "SMSGW_BREAKER_FAILURES": "50"}
    async with running(open_folder / "crashes", tables=tables, environment=environment, dispatchers_each=1) as rig:
        yield rig


async def kill(rig: Rig, name: str) -> None:
    rig.system.signal(name, signal.SIGKILL)
    await asyncio.to_thread(rig.system.processes[name].wait, 5)


async def test_dispatcher_killed_during_a_call_does_not_send_again(rig: Rig) -> None:
    await rig.behave("p1", latency_s=3.5)
    normal = await rig.send(providers=["p1"], priority=NORMAL, ttl=Duration(seconds=18))
    otp = await rig.send(providers=["p1", "p2"], priority=OTP)

    async def both_in_progress() -> bool:
        return len(await rig.received([normal.message_id, otp.message_id])) == 2

    await eventually(both_in_progress)
    await kill(rig, "dispatcher-p1-1")
    rig.system.restart("dispatcher-p1-1")
    await rig.behave("p1")
    resent = await rig.until(otp.message_id, "SENT")
    assert [one.outcome for one in resent.attempts] == [pb.ATTEMPT_OUTCOME_AMBIGUOUS, pb.ATTEMPT_OUTCOME_ACCEPTED]
    unknown = await rig.until(normal.message_id, "UNKNOWN")
    assert [one.code for one in unknown.attempts] == ["vanished"]
    assert len(await rig.received([normal.message_id])) == 1


async def test_dispatcher_killed_under_load_loses_nothing_and_duplicates_only_unclear_attempts(rig: Rig) -> None:
    results = await rig.batch(rig.load(900, priority=BULK, ttl=Duration(seconds=35)))
    ids = {one.accepted.message_id for one in results}
    for name, taken in (("dispatcher-p1-1", 150), ("dispatcher-p4-1", 300)):
        await rig.until_received(taken, ids, 40)
        await kill(rig, name)
        rig.system.restart(name)
    await rig.all_settle(ids, 90)


async def test_nats_killed_and_restarted_under_load_loses_nothing(rig: Rig) -> None:
    assert rig.system.nats is not None
    sending = asyncio.create_task(rig.send_until_accepted(rig.load(900, priority=NORMAL, ttl=Duration(seconds=90))))
    for pause in (2.0, 2.5, 3.0):
        await asyncio.sleep(pause)
        await asyncio.to_thread(rig.system.nats.kill)
        await asyncio.sleep(0.7)
        await asyncio.to_thread(rig.system.nats.start)
    ids = await sending
    assert len(set(ids)) == 900
    await rig.all_settle(set(ids), 150)


async def test_gateway_answers_unavailable_while_the_stream_is_down_and_recovers_by_itself(rig: Rig) -> None:
    assert rig.system.nats is not None
    channel = grpc.aio.insecure_channel(rig.system.gateways[0])
    check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]

    async def until_health(wanted: int) -> None:
        async def reported() -> bool:
            return bool((await check(health_pb2.HealthCheckRequest())).status == wanted)

        await eventually(reported, what=wanted)

    await asyncio.to_thread(rig.system.nats.kill)
    try:
        await until_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.stub().SendSms(rig.load(1)[0], timeout=20)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        details = reasons(caught.value)
        assert (details["ErrorInfo"].reason, "RetryInfo" in details) == ("STREAM_DOWN", True)
    finally:
        await asyncio.to_thread(rig.system.nats.start)
    await until_health(health_pb2.HealthCheckResponse.SERVING)
    answer = await rig.send()
    await rig.until(answer.message_id, "SENT")
    await channel.close()


async def test_sending_continues_while_the_database_is_down_and_the_history_catches_up(rig: Rig) -> None:
    postgres = rig.system.postgres
    assert postgres is not None
    before = await rig.send(client_reference="outage")
    await rig.until(before.message_id, "SENT")
    await asyncio.to_thread(postgres.stop)
    began = time.monotonic()
    ids = [before.message_id]
    try:
        while time.monotonic() < began + OUTAGE_S or len(ids) <= 40:
            answer = await rig.send(client_reference="outage")
            ids.append(answer.message_id)
            if len(ids) % 20 == 0:
                await rig.until(answer.message_id, "SENT")
            await asyncio.sleep(0.25)
    finally:
        await asyncio.to_thread(postgres.start)
    for one in ids:
        await rig.until(one, "SENT")
    end = time.monotonic() + 40
    while True:
        page = None
        with contextlib.suppress(grpc.aio.AioRpcError):
            page = await rig.stub().ListMessages(
                api.ListMessagesRequest(client_reference="outage", page_size=500), timeout=10
            )
        told = {one.message_id: state(one) for one in page.messages} if page else {}
        if [one for one, known in told.items() if known == "SENT"] == ids[::-1]:
            break
        assert time.monotonic() < end, [(one, told.get(one)) for one in ids if told.get(one) != "SENT"]
        await asyncio.sleep(0.5)


async def test_projector_killed_at_any_moment_writes_everything_once(rig: Rig) -> None:
    results = await rig.batch(rig.load(600, priority=BULK, client_reference="projected"))
    ids = {one.accepted.message_id for one in results}
    for _ in range(3):
        await asyncio.sleep(0.4)
        await kill(rig, "projector-1")
        rig.system.restart("projector-1")
        await asyncio.sleep(1.2)
    await rig.until_received(600, ids, 60)
    import asyncpg

    connection = await asyncpg.connect(rig.system.environment["SMSGW_DATABASE_URL"])
    try:
        end = time.monotonic() + 60
        while True:
            rows = await connection.fetch(
                "select m.message_id, m.state, count(e.sequence) as events, max(e.sequence) = m.version as newest"
                " from messages m join events e using (message_id) where m.client_reference = 'projected'"
                " group by m.message_id, m.state, m.version"
            )
            done = [row for row in rows if row["state"] == pb.MESSAGE_STATE_SENT]
            if len(done) == 600:
                break
            assert time.monotonic() < end, len(done)
            await asyncio.sleep(0.5)
    finally:
        await connection.close()
    assert {str(row["message_id"]) for row in done} == ids
    assert {(row["events"], row["newest"]) for row in done} == {(2, True)}
