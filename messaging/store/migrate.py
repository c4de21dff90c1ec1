"""Brings a database to the newest schema; any number of processes may do so at once."""

import asyncio
import pathlib
from collections.abc import Callable
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from messaging.store.engine import connected, open_engine

_T = TypeVar("_T")
_TIMEOUT_S = 300.0
_UPGRADE_S = 6 * 3600.0
"""A revision may rewrite every message that is stored: about 10,000 a second."""

_LOCK_TIMEOUT = "5min"
_LOCK = 0x534D_5347_5701  # any number that nobody else takes for an advisory lock in this database


def _config() -> Config:
    folder = pathlib.Path(__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def head() -> str | None:
    """Name the newest revision that this version of the code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def upgrade(url: str) -> None:
    """Run what is missing, in one transaction under an advisory lock; blocks, so call it in a thread from a loop.

    Raises StoreDown.
    """
    asyncio.run(_in_transaction(url, _upgrade, _UPGRADE_S))


def current(url: str) -> str | None:
    """Name the database's revision; None before the first upgrade. Blocks; raises StoreDown."""
    return asyncio.run(_in_transaction(url, _current, _TIMEOUT_S))


async def _in_transaction(url: str, work: Callable[[Connection], _T], timeout_s: float) -> _T:
    engine = open_engine(url, pool_size=1, timeout_s=timeout_s)
    try:
        async with connected(engine, "migrate") as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    connection.execute(text(f"set local lock_timeout = '{_LOCK_TIMEOUT}'"))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
