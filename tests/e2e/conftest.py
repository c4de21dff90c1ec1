"""One system that is shared by the scenarios that do not change it for good."""

import pathlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from rig import Rig, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fleet's measurements before the shared system starts, whose processes would take CPU time."""
    items.sort(key=lambda item: "test_fleet" not in item.nodeid)


@pytest_asyncio.fixture(scope="session")
async def shared_rig(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    tables = {
        "p1": ["timeout_s = 1.5"],
        "p2": ["timeout_s = 1.5"],
        "p3": ["timeout_s = 1.5"],
        "p4": ["timeout_s = 1.5", "[provider.settings]", "look_up = true", "missing_after_s = 3"],
        "p5": ["timeout_s = 8", 'charge = "segment"'],
    }
    async with running(open_folder / "shared", gateways=2, tables=tables) as rig:
        yield rig


@pytest_asyncio.fixture
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    yield shared_rig
    await shared_rig.behave()
    await shared_rig.close_breakers()
