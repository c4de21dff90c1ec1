"""Permissions on the stream: the manifests' users, passwords and certificates on a real nats-server."""

import asyncio
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from messaging.errors import StreamDown
from messaging.runtime.config import Settings
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.access import Access
from messaging.stream.connection import open_connection
from messaging.stream.interface import ApiError
from messaging.stream.publisher import Publisher
from ops.embedded import NatsServer
from tests.integration.streams import an_address, entry_of
from tests.secret_files import HAS_OPENSSL, USERS, access, guarded_server, laid_out

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="certificates are made by the openssl command")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("guarded")
    laid_out(folder)
    return folder


@pytest.fixture(scope="module")
def secrets(root: pathlib.Path) -> pathlib.Path:
    return root / "run" / "secrets"


@pytest.fixture(scope="module")
def server(root: pathlib.Path) -> Iterator[NatsServer]:
    one = guarded_server(root)
    one.start()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
async def _streams(server: NatsServer, secrets: pathlib.Path) -> None:
    async with open_connection(server.url, "setup", access(secrets, "setup")) as connection:
        await setup.ensure(connection, Settings(), ["p1"])


@pytest.mark.parametrize("user", USERS)
async def test_every_user_can_check_the_configuration_of_the_streams(
    server: NatsServer, secrets: pathlib.Path, user: str
) -> None:
    async with open_connection(server.url, user, access(secrets, user)) as connection:
        found = await setup.ensure(connection, Settings(), ["p1"])
    assert {one.state for one in found} == {"as wanted"}


ADDRESS = "default.0123456789abcdef.018f0000"
FORBIDDEN = {
    "gateway": [
        f"sms.send.p1.normal.{ADDRESS}",
        f"sms.dlq.p1.x.{ADDRESS}",
        f"sms.later.{ADDRESS}",
        "$KV.SMS_LIMITS.alloc",
        "$KV.SMS_BREAKERS.breaker.p1",
        "$JS.API.CONSUMER.MSG.NEXT.SMS_SEND.dispatch-p1-normal",
    ],
    "dispatcher": [
        f"sms.accept.p1.normal.{ADDRESS}",
        "$KV.SMS_LIMITS.alloc",
        "$KV.SMS_LIMITS.leader",
        "$JS.API.CONSUMER.MSG.NEXT.SMS_EVENT.project-event",
        "$JS.API.STREAM.MSG.GET.SMS_ACCEPT",
    ],
    "coordinator": [
        f"sms.accept.p1.normal.{ADDRESS}",
        f"sms.send.p1.normal.{ADDRESS}",
        f"sms.event.{ADDRESS}",
        "$KV.SMS_BREAKERS.breaker.p1",
        "$JS.API.CONSUMER.MSG.NEXT.SMS_SEND.dispatch-p1-normal",
    ],
    "projector": [
        f"sms.accept.p1.normal.{ADDRESS}",
        f"sms.send.p1.normal.{ADDRESS}",
        "$KV.SMS_LIMITS.alloc",
        "$JS.API.CONSUMER.MSG.NEXT.SMS_SEND.dispatch-p1-normal",
    ],
    "setup": [f"sms.accept.p1.normal.{ADDRESS}", f"sms.event.{ADDRESS}", "$JS.API.STREAM.MSG.GET.SMS_ACCEPT"],
}
NOBODYS = [
    "$JS.API.STREAM.DELETE.SMS_SEND",
    "$JS.API.STREAM.PURGE.SMS_ACCEPT",
    "$JS.API.CONSUMER.DELETE.SMS_SEND.dispatch-p1-normal",
    "$JS.API.STREAM.MSG.DELETE.SMS_ACCEPT",
    "_INBOX.gateway.guess",
]


@pytest.mark.parametrize(("user", "subject"), [(user, one) for user in FORBIDDEN for one in FORBIDDEN[user] + NOBODYS])
async def test_user_is_refused_what_it_does_not_need(
    server: NatsServer, secrets: pathlib.Path, user: str, subject: str
) -> None:
    async with open_connection(server.url, user, access(secrets, user), timeout_s=0.3) as connection:
        with capture_logs() as logs, pytest.raises(StreamDown):
            await connection.publish(subject, b"{}")
    assert [subject.lower() in one["said"] for one in logs if one["event"] == "the stream refuses"] == [True]


@pytest.mark.parametrize("user", [user for user in USERS if user != "operator"])
@pytest.mark.parametrize("subject", ["sms.accept.>", "sms.>", "_INBOX.>", "_INBOX.operator.>", ">"])
async def test_no_process_can_subscribe_to_messages_or_to_answers_for_others(
    server: NatsServer, secrets: pathlib.Path, user: str, subject: str
) -> None:
    async with open_connection(server.url, user, access(secrets, user)) as connection:
        with capture_logs() as logs:
            async with connection.listening(subject, lambda _subject, _data: None):
                await connection.client.flush()
                await asyncio.sleep(0.02)
    assert [one["log_level"] for one in logs if one["event"] == "the stream refuses"] == ["error"]


async def test_coordinator_can_schedule_and_unschedule_messages(server: NatsServer, secrets: pathlib.Path) -> None:
    address = an_address()
    async with open_connection(server.url, "coordinator", access(secrets, "coordinator"), timeout_s=0.5) as connection:
        publisher = Publisher(connection)
        await publisher.schedule(entry_of(address), address, "p1", "normal", time.time() + 3600, budget_s=5)
        assert await connection.last(topo.LATER_STREAM, topo.later_subject(address)) is not None
        await publisher.unschedule(address)
        assert await connection.last(topo.LATER_STREAM, topo.later_subject(address)) is None


async def test_set_up_job_creates_streams_and_processes_cannot(server: NatsServer, secrets: pathlib.Path) -> None:
    body = {"name": "OTHER", "subjects": ["other.>"]}
    for user in ("gateway", "dispatcher", "coordinator", "projector"):
        async with open_connection(server.url, user, access(secrets, user), timeout_s=0.3) as connection:
            with pytest.raises((StreamDown, ApiError)):
                await connection.api("STREAM.CREATE.OTHER", body)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user": "nobody"}, "Authorization Violation"),
        ({"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "certificate"),
    ],
    ids=["a wrong user", "another authority"],
)
async def test_failed_authentication_is_reported(
    server: NatsServer, secrets: pathlib.Path, change: dict[str, str], said: str
) -> None:
    if not pathlib.Path(change.get("ca_file", "/")).exists():
        pytest.skip("no authorities are installed here")
    from attrs import evolve

    wrong = evolve(access(secrets, "gateway"), **change)
    with pytest.raises(StreamDown, match=said):
        async with open_connection(server.url, "x", wrong, connect_timeout_s=1):
            pass


def test_certificate_has_the_server_names_of_the_manifests(secrets: pathlib.Path) -> None:
    """A wildcard would not work: OpenSSL, and so Python, accepts none before a name without dots."""
    tls = secrets / "nats-tls" / "tls.crt"
    for name in ("nats-0.nats-headless", "nats-1.nats-headless", "nats-2.nats-headless"):
        command = ["openssl", "verify", "-CAfile", secrets / "nats-ca" / "ca.crt", "-verify_hostname", name, tls]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)


async def test_password_is_never_sent_to_a_server_without_encryption(
    nats_server: NatsServer, secrets: pathlib.Path
) -> None:
    with pytest.raises(StreamDown, match="no encryption"):
        async with open_connection(nats_server.url, "x", access(secrets, "gateway"), connect_timeout_s=1):
            pass


async def test_new_password_takes_effect_without_a_restart(tmp_path: pathlib.Path) -> None:
    secrets = laid_out(tmp_path)
    server = guarded_server(tmp_path)
    server.start()
    try:
        own = access(secrets, "operator")
        async with open_connection(server.url, "x", own) as connection:
            before = pathlib.Path(own.password_file).read_text()
            passwords = secrets / "nats-passwords" / "passwords.conf"
            passwords.write_text(passwords.read_text().replace(before, "new-password"))
            reload(server)
            async with asyncio.timeout(5):
                while connection.connected:
                    await asyncio.sleep(0.01)
            pathlib.Path(own.password_file).write_text("new-password\n")
            async with asyncio.timeout(10):
                while not connection.connected:
                    await asyncio.sleep(0.02)
            assert (await connection.api("INFO"))["type"].endswith("account_info_response")
    finally:
        server.stop()


def reload(server: NatsServer) -> None:
    assert server._child is not None
    server._child.send(signal.SIGHUP)


def test_server_without_authentication_needs_no_credentials() -> None:
    from nats.aio.client import Client

    assert Access().options(Client()) == {}
