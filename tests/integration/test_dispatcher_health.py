"""What processes without a front door answer to health checks."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlparse

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from messaging.runtime.health import ALIVE, READY, health_server
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from ops.embedded import NatsServer
from ops.embedded.child import free_port
from tests.integration.proxy import FaultProxy

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest_asyncio.fixture
async def behind_a_proxy(nats_server: NatsServer) -> AsyncIterator[tuple[FaultProxy, Connection]]:
    async with FaultProxy(urlparse(nats_server.url).port or 0) as proxy, open_connection(proxy.url, "x") as connection:
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


async def test_it_is_ready_while_the_stream_answers_and_alive_in_any_case(
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


async def test_it_is_not_ready_while_it_drains(nats_server: NatsServer) -> None:
    where, stopping = f"127.0.0.1:{free_port()}", asyncio.Event()
    async with open_connection(nats_server.url, "x") as connection, health_server(where, connection, stopping):
        await until(where, READY, SERVING)
        stopping.set()
        await until(where, READY, NOT_SERVING, within_s=1)
        assert await ask(where, ALIVE) == SERVING
    with pytest.raises(grpc.aio.AioRpcError):
        await ask(where, READY)


async def test_nothing_listens_without_an_address(nats_server: NatsServer) -> None:
    async with open_connection(nats_server.url, "x") as connection, health_server("", connection, asyncio.Event()):
        pass
