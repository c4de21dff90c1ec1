"""The servers that commands use directly: the stream and PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from messaging.errors import StoreDown, StreamDown
from messaging.runtime.config import Settings
from messaging.runtime.secret import mask_url
from messaging.stream.access import access_of
from messaging.stream.clock import StreamClock
from messaging.stream.connection import open_connection
from messaging.stream.interface import ApiError, Connection
from ops.commands.failure import FAILED, UNAVAILABLE, WRONG_SETTINGS, Failure
from ops.commands.library_logs import silence_libraries

if TYPE_CHECKING:
    from messaging.store.reader import HistoryReader

_CONNECT_S = 3.0
_TIMEOUT_S = 5.0


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """Connect to the stream; its errors end the command with a sentence that names the server."""
    silence_libraries()
    url, access = settings.servers.nats.reveal(), access_of(settings.servers)
    limits = {"timeout_s": _TIMEOUT_S, "connect_timeout_s": _CONNECT_S}
    try:
        async with open_connection(url, "smsctl", access, **limits) as connection:
            yield connection
    except StreamDown as exc:
        raise stream_away(settings, exc) from exc
    except ApiError as exc:
        cure = "`smsctl topology` shows the state of the streams, and --create makes what is missing"
        raise Failure(f"the message stream refused: {exc}; {cure}", FAILED) from exc


async def right_time(connection: Connection) -> float:
    """Return the time (Unix seconds) for deadlines that a command sets: the stream's where our clock is wrong."""
    clock = StreamClock(connection)
    await clock.compare()
    return clock.now()


def stream_away(settings: Settings, exc: StreamDown) -> Failure:
    """Return the failure for a stream that does not answer or is not set up."""
    where = mask_url(settings.servers.nats.reveal())
    if "was refused with" in exc.during:
        cure = "`smsctl topology` shows the state of the streams, and --create makes what is missing"
        return Failure(f"the message stream at {where} is not set up ({exc.during}); {cure}", FAILED)
    return Failure(f"no message stream at {where} ({exc.during}): start it, or set SMSGW_NATS_URL", UNAVAILABLE)


def store_away(settings: Settings, exc: StoreDown) -> Failure:
    """Return the failure for a PostgreSQL server that does not answer."""
    from messaging.store.engine import DriverFault

    where = mask_url(settings.servers.database.reveal())
    why = f"{exc.during}: {exc.__cause__}" if isinstance(exc.__cause__, DriverFault) else exc.during
    return Failure(f"no history at {where} ({why}): start PostgreSQL, or set SMSGW_DATABASE_URL", UNAVAILABLE)


def wrong_database(exc: ValueError) -> Failure:
    """Return the failure for a database URL that is not valid."""
    return Failure(f"these settings are wrong:\n  SMSGW_DATABASE_URL: {exc}", WRONG_SETTINGS)


@contextlib.asynccontextmanager
async def history(settings: Settings) -> AsyncIterator["HistoryReader"]:
    """Open the history; its errors end the command with a sentence that names the server."""
    await asyncio.to_thread(_load_store)  # takes a second
    from messaging.store.engine import open_engine
    from messaging.store.reader import HistoryReader

    try:
        engine = open_engine(settings.servers.database.reveal(), pool_size=1, timeout_s=_TIMEOUT_S)
    except ValueError as exc:
        raise wrong_database(exc) from exc
    try:
        yield HistoryReader(engine)
    except StoreDown as exc:
        raise store_away(settings, exc) from exc
    finally:
        await engine.dispose()


def _load_store() -> None:
    import messaging.store.reader  # noqa: F401
