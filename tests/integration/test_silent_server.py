"""A server that answers pings but stores nothing is left for another one."""

import asyncio
import pathlib

from messaging.errors import StreamDown
from messaging.stream.connection import NatsConnection, open_connection
from messaging.stream.interface import Stored
from messaging.stream.silence import PATIENCE_S
from ops.embedded import NatsServer

WITHIN_S = PATIENCE_S + 10


async def until_stored(connection: NatsConnection) -> int:
    """Publish until it is stored; returns how often it was not."""
    failures = 0
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                assert isinstance(await connection.publish("things", b"x"), Stored)
            except StreamDown:
                failures += 1
                await asyncio.sleep(0.1)
            else:
                return failures


async def test_connection_leaves_a_server_through_which_nothing_is_stored(tmp_path: pathlib.Path) -> None:
    storing, silent = NatsServer(tmp_path / "storing"), NatsServer(tmp_path / "silent")
    for server in (storing, silent):
        await asyncio.to_thread(server.start)
    try:
        async with open_connection(storing.url, "set-up") as connection:
            await connection.api("STREAM.CREATE.THINGS", {"name": "THINGS", "subjects": ["things"]})
        failures = 0
        while not failures:  # a connection chooses one of the two at random
            async with open_connection(f"{silent.url},{storing.url}", "test") as connection:
                failures = await until_stored(connection)
                url = connection.client.connected_url
                assert url is not None
                assert f":{url.port}" in storing.url
    finally:
        for server in (storing, silent):
            await asyncio.to_thread(server.kill)


async def test_only_server_is_not_left(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path / "only")
    await asyncio.to_thread(server.start)
    try:
        async with open_connection(server.url, "test") as connection:
            assert not await connection.client.change_server()
            assert connection.connected
    finally:
        await asyncio.to_thread(server.kill)
