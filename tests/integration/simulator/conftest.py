"""A simulator on real sockets, and a client."""

from collections.abc import AsyncIterator

import httpx
import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.server import Simulator


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator({"p1": Behaviour(), "p2": Behaviour()}) as simulator:
        yield simulator


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20) as http:
        yield http
