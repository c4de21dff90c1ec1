"""Fixtures of every test that needs a real server: one NATS and one PostgreSQL a session, one database a test.

What they import they import when they are asked for: the unit tier starts without a database's libraries.
"""

import asyncio
import os
import pathlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ops.embedded import NatsServer, Postgres


for _size in ("COLUMNS", "LINES"):
    os.environ.pop(_size, None)  # xdist's workers have the size of a terminal, in which tables fold

pytest.register_assert_rewrite("tests.contract.stream")
pytest_plugins = ("tests.repeating",)

_LONG = frozenset({"e2e", "load"})
_ON_THE_SHARED_SYSTEM = frozenset({"test_breakers", "test_gateway", "test_readme_lines", "test_sending"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, or the last worker would be left alone with it."""
    items.sort(key=lambda item: _LONG.isdisjoint(item.path.parts))


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps together what shares a system or a server: a module, or the scenarios, in two lanes.

    xdist's own groups come from a mark, and with pytest 9.2 it forgets them in silence (pytest-xdist issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if "e2e" not in pathlib.PurePath(path).parts:
            return path
        return "shared system" if pathlib.PurePath(path).stem in _ON_THE_SHARED_SYSTEM else "systems of their own"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes | None:
    """Divide the tests by lanes where workers were asked for so: `--dist loadgroup`."""
    return Lanes(config, log) if config.getvalue("dist") == "loadgroup" else None


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
