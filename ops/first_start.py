"""What only the first start of an embedded server may do: nobody can hold a share of the rate yet."""

import asyncio
from collections.abc import Mapping, Sequence

from messaging.documents import Table
from messaging.runtime.config import Settings, read_settings
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.access import access_of
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.connection import open_connection


def prepare(environment: Mapping[str, str], providers: Sequence[str]) -> None:
    """Create the streams on a server that is new and known to nobody, and an empty table of shares.

    A coordinator that finds no table has to wait until the shares of a lost one have ended. Raises SetupError and
    StreamDown.
    """
    settings = read_settings({key: value for key, value in environment.items() if key.startswith("SMSGW_")})
    asyncio.run(_prepare(settings.servers.nats.reveal(), settings, list(providers)))


async def _prepare(url: str, settings: Settings, providers: list[str]) -> None:
    async with open_connection(url, "first-start", access_of(settings.servers)) as connection:
        await setup.ensure(connection, settings, providers, patience_s=10.0)
        await LimitsBoard(Bucket(connection, topo.LIMITS_BUCKET)).set_table(Table(), 0)
