"""Opens connections to PostgreSQL, and translates all their failures to StoreDown.

Data that PostgreSQL refuses is a StoreRefuses. A held lock, a deadlock or a full disk is only a StoreDown: it passes.

The driver's exception is not passed on, because PostgreSQL's messages may quote a row or a parameter, and so a phone
number or a text. The cause of the StoreDown is a DriverFault instead: it names the exception's class and code, and
repeats its message only where the code shows that it is about the schema or the server and not about data.
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

# A generic plan would find a rare state or provider by reading all of a client's messages, and would include every week
# instead of those asked for. Planning each query takes less than a millisecond.
_SESSION = {"application_name": "sms-gateway", "timezone": "UTC", "plan_cache_mode": "force_custom_plan"}

# Classes of SQLSTATE codes.
_ABOUT_DATA = ("22", "23", "54")  # data that cannot be converted, breaks a constraint, or exceeds a limit
# Connection, feature, transaction, authorisation, catalog, schema, rollback, statement, resources, state, operator,
# system. Our statements contain no values, so that messages about a statement (42) contain none.
_WITHOUT_DATA = ("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")


class DriverFault(Exception):
    """The name of a driver's exception and, where it contains no data, its message."""


def open_engine(url: str, *, pool_size: int = 5, timeout_s: float = 5.0) -> AsyncEngine:
    """Make an engine, which connects when it is first used.

    `timeout_s` limits each call, including the wait for a free connection. Raises ValueError when `url` is not a
    PostgreSQL URL.
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
async def transaction(engine: AsyncEngine, during: str) -> AsyncIterator[AsyncConnection]:
    """Provide a connection in one transaction, which is committed at the end and rolled back by any exception.

    `during` names the operation, for the error. Raises StoreDown when PostgreSQL does not answer or refuses.
    """
    async with _answering(engine, during), engine.begin() as connection:
        yield connection


@contextlib.asynccontextmanager
async def reading(engine: AsyncEngine, during: str) -> AsyncIterator[AsyncConnection]:
    """Provide a connection without a transaction, which saves two round trips. Raises as `transaction` does."""
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
        refused = isinstance(cause, asyncpg.PostgresError) and (cause.sqlstate or "").startswith(_ABOUT_DATA)
        raise (StoreRefuses if refused else StoreDown)(during) from _harmless(cause)


def _cause(exc: BaseException) -> BaseException:
    """Return the driver's own exception."""
    while isinstance(exc, DBAPIError) and exc.orig is not None:
        exc = exc.orig
    while not isinstance(exc, asyncpg.PostgresError) and isinstance(exc.__cause__, Exception):
        exc = exc.__cause__
    return exc


def _harmless(exc: BaseException) -> DriverFault:
    """Describe a driver's exception without anything that may be a caller's data."""
    name = type(exc).__name__
    if not isinstance(exc, asyncpg.PostgresError):
        return DriverFault(name)
    code = exc.sqlstate or ""
    message = f": {exc.args[0]}" if code.startswith(_WITHOUT_DATA) and exc.args else ""
    return DriverFault(f"{name} {code}{message}")
