"""Fixtures of every test that needs a real server: one NATS and one PostgreSQL a session, one database a test.

What they import they import when they are asked for: the unit tier starts without a database's libraries.
"""

import asyncio
import pathlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ops.embedded import NatsServer, Postgres


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a system or a server when two workers divide the tests."""
    for item in items:
        lane = "e2e" if "e2e" in item.path.parts else str(item.path)
        item.add_marker(pytest.mark.xdist_group(lane))


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[NatsServer]":
    from ops.embedded import NatsServer

    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def open_folder() -> Iterator[pathlib.Path]:
    """A folder that PostgreSQL's user can enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="smsgw-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def postgres(open_folder: pathlib.Path) -> "Iterator[Postgres]":
    from ops.embedded import Postgres

    server = Postgres(open_folder / "postgres", durable=False)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="session")
async def database_template(postgres: "Postgres") -> str:
    """The name of a migrated database without rows."""
    from messaging.store import migrate

    url = await postgres.create_database("template_smsgw")
    await asyncio.to_thread(migrate.upgrade, url)
    return "template_smsgw"


@pytest_asyncio.fixture
async def database_url(postgres: "Postgres", database_template: str) -> str:
    """A fresh database; it goes with the session's server."""
    return await postgres.create_database(f"test_{uuid.uuid4().hex}", database_template)


@pytest_asyncio.fixture
async def engine(database_url: str) -> "AsyncIterator[AsyncEngine]":
    from messaging.store.engine import open_engine

    opened = open_engine(database_url)
    yield opened
    await opened.dispose()
