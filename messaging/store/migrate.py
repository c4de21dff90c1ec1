"""Upgrades a database to the newest schema; any number of processes may do so at once."""

import asyncio
import pathlib
from collections.abc import Callable
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from messaging.store.engine import open_engine, transaction

_T = TypeVar("_T")
_TIMEOUT_S = 300.0
_UPGRADE_S = 6 * 3600.0
"""A revision may rewrite every stored message, about 10,000 a second."""

_LOCK_TIMEOUT = "5min"
_LOCK = 0x534D_5347_5701  # any number that no other advisory lock in this database uses


def _config() -> Config:
    folder = pathlib.Path(__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def head() -> str | None:
    """Name the newest revision that this version of the code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def upgrade(url: str) -> None:
    """Run the missing revisions, in one transaction under an advisory lock. Raises StoreDown.

    It blocks: from an event loop, call it in a thread.
    """
    asyncio.run(_in_transaction(url, _upgrade, _UPGRADE_S))


def downgrade(url: str, revision: str) -> None:
    """Go back to an older revision, so that an older version can run; blocks as `upgrade` does.

    Raises StoreDown, and ValueError for a revision that is unknown or newer than the database's.
    """

    def go_back(connection: Connection) -> None:
        known = _revisions()
        if revision not in known or known.index(revision) > known.index(_current(connection) or known[0]):
            raise ValueError(f"{revision} is not an older revision; there are {', '.join(known)}")
        _run(connection, lambda config: command.downgrade(config, revision))

    asyncio.run(_in_transaction(url, go_back, _UPGRADE_S))


def _revisions() -> list[str]:
    """Name every revision, oldest first."""
    script = ScriptDirectory.from_config(_config())
    return [one.revision for one in reversed(list(script.walk_revisions()))]


def current(url: str) -> str | None:
    """Name the database's revision; None before the first upgrade. Blocks; raises StoreDown."""
    return asyncio.run(_in_transaction(url, _current, _TIMEOUT_S))


async def _in_transaction(url: str, work: Callable[[Connection], _T], timeout_s: float) -> _T:
    engine = open_engine(url, pool_size=1, timeout_s=timeout_s)
    try:
        async with transaction(engine, "migrate") as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    _run(connection, lambda config: command.upgrade(config, "head"))


def _run(connection: Connection, step: Callable[[Config], None]) -> None:
    """Run a migration step while other processes wait for the advisory lock."""
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    connection.execute(text(f"set local lock_timeout = '{_LOCK_TIMEOUT}'"))
    config = _config()
    config.attributes["connection"] = connection
    step(config)


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
