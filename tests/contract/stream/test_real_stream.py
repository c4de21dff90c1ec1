"""Every claim about the stream, on a real nats-server; the unit tests check them on the memory stream."""

import contextlib
import pathlib
from collections.abc import AsyncIterator

import pytest

from messaging.stream import setup
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from ops.embedded import NatsServer
from tests.contract.stream.suite import CLAIMS
from tests.contract.stream.world import PROVIDERS, Claim
from tests.integration.proxy import FaultProxy

_TIMEOUT_S = 10.0
"""Long, because a write that is repeated on a busy machine is stored again. A lost answer ends with its connection."""


class RealWorld:
    """A server, with one connection through a proxy that can drop answers."""

    def __init__(self, one: Connection, other: Connection, proxy: FaultProxy) -> None:
        self.one = one
        self.other = other
        self._proxy = proxy

    @contextlib.asynccontextmanager
    async def answers_lost(self) -> AsyncIterator[None]:
        self._proxy.muted = True
        yield
        self._proxy.muted = False
        self._proxy.cut()


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
async def test_claim_about_the_stream_holds_on_a_real_server(claim: Claim, tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    try:
        async with contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(FaultProxy(server.url))
            one = await stack.enter_async_context(open_connection(proxy.url, "one", timeout_s=_TIMEOUT_S))
            other = await stack.enter_async_context(open_connection(server.url, "other", timeout_s=_TIMEOUT_S))
            if claim.made:
                await setup.ensure(other, claim.settings, PROVIDERS)
            await claim.check(RealWorld(one, other, proxy))
    finally:
        server.stop()
