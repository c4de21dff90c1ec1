"""The whole system with the manifests' users and TLS: every process can work, and none is refused."""

import asyncio
import pathlib
import signal
import time
import uuid
from collections.abc import AsyncIterator, Mapping

import grpc
import pytest
import pytest_asyncio
from google.protobuf import duration_pb2
from rig import QUICK, Rig, running, state
from sms.gateway.v1 import gateway_pb2 as api

from messaging.runtime.config import read_settings
from messaging.stream import setup
from messaging.stream.connection import open_connection
from ops.embedded import Postgres
from tests.secret_files import HAS_OPENSSL, access, guarded_server, laid_out

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="certificates are made by the openssl command")


@pytest_asyncio.fixture(scope="module")
async def guarded(open_folder: pathlib.Path, postgres: Postgres, database_template: str) -> AsyncIterator[Rig]:
    root = open_folder / "guarded"
    secrets = laid_out(root)
    server = guarded_server(root)
    server.start()
    own = access(secrets, "setup")
    environment = {
        "SMSGW_NATS_URL": server.url.replace("nats://", "tls://"),
        "SMSGW_NATS_CA_FILE": own.ca_file,
        "SMSGW_DATABASE_URL": await postgres.create_database(f"guarded_{uuid.uuid4().hex}", database_template),
    }

    def own_settings(name: str, _seen: Mapping[str, str]) -> Mapping[str, str]:
        user = name.partition("-")[0]
        if user == "simulator":
            return {}
        return {"SMSGW_NATS_USER": user, "SMSGW_NATS_PASSWORD_FILE": access(secrets, user).password_file}

    settings = read_settings({**QUICK, **environment})
    try:
        async with open_connection(server.url, "setup", own) as connection:
            await setup.ensure(connection, settings, ["p1", "p2"])
        plan = {"providers": ("p1", "p2"), "environment": environment, "own_settings": own_settings}
        async with running(root / "system", **plan) as rig:
            yield rig
    finally:
        server.stop()


def refusals(rig: Rig, root: pathlib.Path) -> list[str]:
    """Return the log lines of the server and the processes about refusals."""
    logs = [root / "etc" / "nats" / "nats-server.log", *rig.system.logs.glob("*.log")]
    words = ("Permissions Violation", "the stream refuses", "authentication error")
    return [line for log in logs for line in log.read_text().splitlines() if any(word in line for word in words)]


async def test_every_process_works_with_its_own_user(guarded: Rig, open_folder: pathlib.Path) -> None:
    rig = guarded
    plain = await rig.send(request_id="plain")
    soon = api.SendSmsRequest(recipient=rig.number(), body="Later")
    soon.schedule_time.FromSeconds(int(time.time()) + 3)
    scheduled = await rig.stub().SendSms(soon, timeout=10)
    withdrawn = api.SendSmsRequest(recipient=rig.number(), body="Never")
    withdrawn.schedule_time.FromSeconds(int(time.time()) + 3600)
    gone = await rig.stub().SendSms(withdrawn, timeout=10)
    await rig.stub().CancelMessage(api.CancelMessageRequest(message_id=gone.message_id), timeout=10)
    repeat = await rig.send(request_id="plain", recipient=plain.recipient)
    watched = rig.stub().WatchStatus(api.WatchStatusRequest(message_id=scheduled.message_id), timeout=60)
    assert [state(one.status) async for one in watched][-1] == "SENT"

    assert repeat.replayed
    await rig.until(plain.message_id, "SENT")
    await rig.until(scheduled.message_id, "SENT")
    await rig.until(gone.message_id, "CANCELED")

    # Failover, retry and dead letter use another queue, the schedule and the dead letters; then a throttled lane.
    await rig.behave(by_suffix={"0503": "unavailable", "0429": "throttle"}, retry_after_s=1)
    hopeless = await rig.send(recipient=rig.number("0503"))
    throttled = await rig.send(recipient=rig.number("0429"), providers=["p2"])
    failed = await rig.until(hopeless.message_id, "FAILED")
    assert {one.provider for one in failed.attempts} == {"p1", "p2"}
    await rig.until(throttled.message_id, lambda status: len(status.attempts) > 0)
    await rig.behave()
    await rig.until(throttled.message_id, "SENT")

    # Ended by the sweeper, because no pod draws it.
    rig.system.signal("dispatcher-p1-1", signal.SIGSTOP)
    overdue = await rig.send(providers=["p1"], ttl=duration_pb2.Duration(seconds=5))
    await rig.until(overdue.message_id, "EXPIRED")
    rig.system.signal("dispatcher-p1-1", signal.SIGCONT)

    # The projector has written everything.
    end = time.monotonic() + 20
    while True:
        try:
            listed = await rig.stub().ListMessages(api.ListMessagesRequest(page_size=100), timeout=10)
        except grpc.aio.AioRpcError:
            listed = api.ListMessagesResponse()
        if {plain.message_id, scheduled.message_id, gone.message_id} <= {one.message_id for one in listed.messages}:
            break
        assert time.monotonic() < end
        await asyncio.sleep(0.2)

    assert refusals(rig, open_folder / "guarded") == []
