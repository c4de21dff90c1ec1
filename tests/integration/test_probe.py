"""`smsctl probe`, as a container's health check runs it."""

import asyncio

import pytest

from messaging.runtime.health import health_server
from messaging.stream.connection import open_connection
from ops.embedded import NatsServer
from ops.embedded.child import free_port
from tests.integration.control import run

pytestmark = pytest.mark.usefixtures("no_settings")


async def test_probe_reports_the_health_of_a_process(nats_server: NatsServer) -> None:
    port, stopping = free_port(), asyncio.Event()
    where, own = f"127.0.0.1:{port}", {"SMSGW_HEALTH_LISTEN": f"0.0.0.0:{port}"}
    async with open_connection(nats_server.url, "x") as connection, health_server(where, connection, stopping):
        alive = await asyncio.to_thread(run, "probe", **own)
        assert (alive.exit_code, alive.stdout.strip()) == (0, "SERVING")
        stopping.set()
        await asyncio.sleep(0.1)
        ready = await asyncio.to_thread(run, "probe", "--service", "", where)
        assert ready.exit_code == 1
        assert "NOT_SERVING" in ready.stderr
    gone = await asyncio.to_thread(run, "probe", **own)
    assert gone.exit_code == 1
    assert "does not answer" in gone.stderr
