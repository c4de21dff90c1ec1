"""A running system for the tests of smsctl; each module of them has its own."""

import asyncio
import os
import pathlib
import time
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from messaging.stream import setup
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from ops.embedded import NatsServer, Postgres
from ops.system import Plan, System
from ops.up import wait_until_serving
from tests.integration.control import Smsctl, run
from tests.integration.streams import PROVIDERS, SETTINGS

_QUICK = {"SMSGW_RETRY_DELAYS_S": "0.3", "SMSGW_BREAKER_COOLDOWN_S": "60", "SMSGW_DRAIN_S": "3"}


@pytest_asyncio.fixture(scope="module")
async def system(open_folder: pathlib.Path, postgres: Postgres, database_template: str) -> AsyncIterator[System]:
    url = await postgres.create_database(f"cli_{uuid.uuid4().hex}", database_template)
    environment = {**_QUICK, "SMSGW_DATABASE_URL": url}
    plan = Plan(
        open_folder / f"cli-{uuid.uuid4().hex[:8]}", environment=environment, providers=("p1", "p2"), durable=False
    )
    running = System(plan)
    try:
        await asyncio.to_thread(running.start)
        assert await wait_until_serving(running)
        await asyncio.to_thread(_wait_for_the_history, running)
        yield running
    finally:
        await asyncio.to_thread(running.stop)


def _wait_for_the_history(system: System) -> None:
    """Ask for an unknown message until the gateway has looked it up in the store."""
    end = time.monotonic() + 40
    while run("status", "--request-id", "nobody", SMSGW_VAR=str(system.folder)).exit_code != 1:
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Remove all settings except those of a test; no server is found unless a test names it."""
    for name in [name for name in os.environ if name.startswith("SMSGW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SMSGW_VAR", str(tmp_path / "nowhere"))


@pytest.fixture
def smsctl(system: System, no_settings: None) -> Smsctl:
    return lambda *arguments, **rest: run(*arguments, **{"SMSGW_VAR": str(system.folder), **rest})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    one = NatsServer(tmp_path_factory.mktemp("stream"))
    one.start()
    async with open_connection(one.url, "test") as connection:
        await setup.ensure(connection, SETTINGS, PROVIDERS)
    yield one
    one.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    async with open_connection(server.url, "test", timeout_s=0.5) as one:
        yield one
