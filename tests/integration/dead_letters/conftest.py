"""A separate stream for each module, and its dead letters."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from messaging.runtime.config import Settings
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from ops.dead_letters import DeadLetters
from ops.embedded import NatsServer
from tests.integration.dead_letters.letters import PROVIDERS


@pytest_asyncio.fixture(scope="module")
async def connection(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Connection]:
    server = NatsServer(tmp_path_factory.mktemp("letters"))
    server.start()
    async with open_connection(server.url, "test") as opened:
        await setup.ensure(opened, Settings(), PROVIDERS)
        yield opened
    server.stop()


@pytest_asyncio.fixture
async def letters(connection: Connection) -> DeadLetters:
    await connection.api(f"STREAM.PURGE.{topo.DLQ}")
    return DeadLetters(connection, PROVIDERS)
