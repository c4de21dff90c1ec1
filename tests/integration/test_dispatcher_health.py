"""How processes without a gateway port answer health checks."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import cast

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from messaging.errors import StreamDown
from messaging.runtime.health import ALIVE, READY, health_server
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from ops.embedded import NatsServer
from ops.embedded.child import free_port
from tests.integration.proxy import FaultProxy
from tests.machine import Machine

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest_asyncio.fixture
async def behind_a_proxy(nats_server: NatsServer) -> AsyncIterator[tuple[FaultProxy, Connection]]:
    async with FaultProxy(nats_server.url) as proxy, open_connection(proxy.url, "x") as connection:
        yield proxy, connection


async def ask(where: str, service: str) -> int:
    async with grpc.aio.insecure_channel(where) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=2, wait_for_ready=True)
        return int(answer.status)


async def until(where: str, service: str, wanted: int, within_s: float = 15) -> None:
    async with asyncio.timeout(within_s):
        while await ask(where, service) != wanted:
            await asyncio.sleep(0.1)


async def test_process_is_ready_while_the_stream_answers_and_always_alive(
    behind_a_proxy: tuple[FaultProxy, Connection],
) -> None:
    proxy, connection = behind_a_proxy
    where = f"127.0.0.1:{free_port()}"
    async with health_server(where, connection, asyncio.Event()):
        assert await ask(where, READY) == SERVING
        assert await ask(where, ALIVE) == SERVING
        proxy.muted = True
        await until(where, READY, NOT_SERVING)
        assert await ask(where, ALIVE) == SERVING
        proxy.muted = False
        await until(where, READY, SERVING)


async def test_process_is_not_ready_while_it_drains(nats_server: NatsServer, machine: Machine) -> None:
    where, stopping = f"127.0.0.1:{free_port()}", asyncio.Event()
    async with open_connection(nats_server.url, "x") as connection, health_server(where, connection, stopping):
        await until(where, READY, SERVING)
        stopping.set()
        began = time.monotonic()
        await until(where, READY, NOT_SERVING)
        machine.reaches(time.monotonic() - began, below=1)
        assert await ask(where, ALIVE) == SERVING
    with pytest.raises(grpc.aio.AioRpcError):
        await ask(where, READY)


class Answering:
    """A stream that answers until it is down; records when it last did."""

    def __init__(self) -> None:
        self.away = False
        self.answered_at = 0.0

    async def api(self, verb: str, *, timeout_s: float) -> dict[str, object]:
        if self.away:
            raise StreamDown("asking")
        self.answered_at = time.monotonic()
        return {}


async def test_process_stays_ready_for_five_seconds_without_an_answer_and_no_longer(machine: Machine) -> None:
    stream, where = Answering(), f"127.0.0.1:{free_port()}"
    async with health_server(where, cast("Connection", stream), asyncio.Event()):
        await until(where, READY, SERVING)
        stream.away = True
        await until(where, READY, NOT_SERVING)
        silent_s = time.monotonic() - stream.answered_at
        assert silent_s >= 5
        machine.reaches(silent_s, below=9)  # it is checked every second


_NOTHING_LISTENS = """
import asyncio, sys
from messaging.errors import StreamDown
from messaging.runtime.health import health_server

bound = []
sys.addaudithook(lambda event, _: bound.append(event) if event in ("socket.bind", "socket.listen") else None)

async def work():
    async with health_server(sys.argv[1], None, asyncio.Event()):
        print("listening" if bound or "grpc" in sys.modules else "silent")

asyncio.run(work())
"""


@pytest.mark.parametrize(("address", "does"), [("", "silent"), ("127.0.0.1:0", "listening")])
def test_without_an_address_nothing_listens_and_grpc_is_not_loaded(address: str, does: str) -> None:
    words = [sys.executable, "-c", _NOTHING_LISTENS, address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert does in done.stdout.split(), done.stdout + done.stderr
