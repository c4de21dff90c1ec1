"""A provider that is scripted, and clients that are closed when a test ends."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.contract.adapters.kits import Open
from tests.contract.provider_server import ProviderServer


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as one:
        yield one


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Open]:
    one = Open()
    yield one
    for client in one.clients:
        await client.aclose()
