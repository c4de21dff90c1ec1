"""Opens the connections to PostgreSQL, and turns every way in which they fail into StoreDown.

Data that it refuses is a StoreRefuses; a lock that is held, a deadlock, a full disk are not: those pass.

A driver's exception is not passed on as it is: PostgreSQL's messages may quote a row or a parameter, and so a number or
a text. What stands behind the StoreDown is a DriverFault, which names the exception's class and code, and repeats its
sentence only where the code says that it speaks of the schema or the server and not of data.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from messaging.errors import StoreDown, StoreRefuses
from messaging.runtime.secret import DATABASE_SCHEMES

_TIMEOUT_OPTION = "messaging_timeout_s"

# A plan made without the values would look for a rare state or provider by walking through all of a client's messages,
# and it would plan for every week instead of those asked for. Planning costs less than a millisecond.
_SESSION = {"application_name": "sms-gateway", "timezone": "UTC", "plan_cache_mode": "force_custom_plan"}

# Connection, feature, transaction, authorisation, catalog, schema, rollback, statement, resources, state, operator,
# system. A statement of ours holds no values, so what is said of it (42) holds none.
_SPEAKS_OF_DATA = ("22", "23", "54")  # what cannot be read, what breaks a rule of the schema, what is too large
_SPEAKS_OF_NO_DATA = ("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")


class DriverFault(Exception):
    """The name of a driver's exception and, where it holds no data, its first sentence."""


def open_engine(url: str, *, pool_size: int = 5, timeout_s: float = 5.0) -> AsyncEngine:
    """Make an engine; nothing is connected before its first use.

    `timeout_s` bounds each call as a whole, waiting for a free connection included. Raises ValueError when `url` is no
    address of PostgreSQL.
    """
    for scheme in DATABASE_SCHEMES:
        if url.startswith(scheme):
            address = "postgresql+asyncpg://" + url.removeprefix(scheme)
            break
    else:
        raise ValueError("the database's address must begin with postgresql://")
    return create_async_engine(
        address,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        pool_pre_ping=True,
        hide_parameters=True,
        execution_options={_TIMEOUT_OPTION: timeout_s},
        connect_args={
            "timeout": timeout_s,
            "command_timeout": timeout_s,
            "server_settings": _SESSION,
        },
    )


@contextlib.asynccontextmanager
async def connected(engine: AsyncEngine, during: str) -> AsyncIterator[AsyncConnection]:
    """Lend a connection inside one transaction: committed at the end, rolled back by any exception.

    `during` says what is done, in a word. Raises StoreDown when PostgreSQL does not answer or refuses.
    """
    async with _answering(engine, during), engine.begin() as connection:
        yield connection


@contextlib.asynccontextmanager
async def reading(engine: AsyncEngine, during: str) -> AsyncIterator[AsyncConnection]:
    """Lend a connection on which each statement stands alone: saves two round trips. Raises as `connected` does."""
    async with _answering(engine, during), engine.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")


@contextlib.asynccontextmanager
async def _answering(engine: AsyncEngine, during: str) -> AsyncIterator[None]:
    timeout_s: float = engine.sync_engine.get_execution_options()[_TIMEOUT_OPTION]
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (OSError, TimeoutError) as exc:
        raise StoreDown(during) from exc
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        cause = _cause(exc)
        refused = isinstance(cause, asyncpg.PostgresError) and (cause.sqlstate or "").startswith(_SPEAKS_OF_DATA)
        raise (StoreRefuses if refused else StoreDown)(during) from _harmless(cause)


def _cause(exc: BaseException) -> BaseException:
    """Give the driver's own exception."""
    while isinstance(exc, DBAPIError) and exc.orig is not None:
        exc = exc.orig
    while not isinstance(exc, asyncpg.PostgresError) and isinstance(exc.__cause__, Exception):
        exc = exc.__cause__
    return exc


def _harmless(exc: BaseException) -> DriverFault:
    """Name a driver's exception without anything in it that may be a caller's data."""
    name = type(exc).__name__
    if not isinstance(exc, asyncpg.PostgresError):
        return DriverFault(name)
    code = exc.sqlstate or ""
    sentence = f": {exc.args[0]}" if code.startswith(_SPEAKS_OF_NO_DATA) and exc.args else ""
    return DriverFault(f"{name} {code}{sentence}")
