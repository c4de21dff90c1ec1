"""Where the account has no limit, the gateway stops accepting before the server is full."""

import asyncio
import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from gateway_grpc.admission import Admission
from messaging.errors import StreamFull
from messaging.runtime.providers_file import Provider
from messaging.stream import setup
from messaging.stream.capacity import server_capacity
from messaging.stream.connection import open_connection
from messaging.stream.fleet import FleetView
from ops.embedded import NatsServer
from tests.integration.streams import PROVIDERS, SETTINGS, accept, an_address

MAX_BYTES = 40_000_000


@contextlib.contextmanager
def serving(folder: pathlib.Path, max_bytes: int | None) -> Iterator[NatsServer]:
    server = NatsServer(folder, max_file=max_bytes)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def test_limit_of_the_server_is_found_and_nothing_is_left_behind(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, MAX_BYTES) as server:
        async with open_connection(server.url, "x") as connection:
            found = await server_capacity(connection)
            assert found is not None
            assert 0.95 * MAX_BYTES <= found <= MAX_BYTES
            assert (await connection.api("STREAM.NAMES", {"offset": 0}))["streams"] in (None, [])
            # What other streams have reserved counts as the server's.
            body = {"name": "OTHER", "storage": "file", "max_bytes": MAX_BYTES // 2}
            await connection.api("STREAM.CREATE.OTHER", body)
            again = await server_capacity(connection)
            assert again is not None
            assert 0.95 * MAX_BYTES <= again <= MAX_BYTES


async def test_limit_by_the_disk_is_found_too(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, None) as server:
        async with open_connection(server.url, "x") as connection:
            found = await server_capacity(connection)
    assert found is not None
    assert found > 10**8


async def test_gateway_stops_accepting_before_the_server_is_full(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, MAX_BYTES) as server:
        async with open_connection(server.url, "x") as connection:
            await setup.ensure(connection, SETTINGS, PROVIDERS)
            providers = [Provider(name, "simulated", "http://x") for name in PROVIDERS]
            view = FleetView(connection, providers, 1.0, capacity_bytes=await server_capacity(connection) or 0)
            await view.refresh_backlog()
            assert view.storage_limited
            admission = Admission(view, 10**6, 10**6, 0.8)
            admission.check("p1")
            for _ in range(180):  # each is stored twice: as accepted, and in the queue
                await accept(connection, an_address(), body="x" * 100_000)
            async with asyncio.timeout(10):  # the server counts what it has stored a moment later
                while view.storage_fill < 0.8:
                    await view.refresh_backlog()
            with pytest.raises(StreamFull):
                admission.check("p1")
            # There is still room for what follows from the accepted ones.
            for _ in range(20):
                await connection.publish(f"sms.event.default.{an_address().key}.0", b"x" * 1000)
