"""Every claim about the stream, on the memory stream; `tests/contract/stream` checks them on a real nats-server."""

import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from messaging.errors import StreamDown
from tests.contract.stream.suite import CLAIMS
from tests.contract.stream.world import PROVIDERS, Claim
from tests.memory_stream import MemoryConnection, MemoryStream
from tests.unit.virtual_time import run_whole


class MemoryWorld:
    """A memory stream, with one connection whose answers can be lost."""

    def __init__(self, claim: Claim) -> None:
        stream = MemoryStream(claim.settings, PROVIDERS, time.time, made=claim.made)
        self.one = MemoryConnection(stream, self._at_step, timeout_s=0.3)
        self.other = MemoryConnection(stream, timeout_s=0.3)
        self._losing = False

    def _at_step(self, name: str) -> None:
        if self._losing and name.startswith("after"):
            raise StreamDown(name)

    @contextlib.asynccontextmanager
    async def answers_lost(self) -> AsyncIterator[None]:
        self._losing = True
        yield
        self._losing = False


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_claim_about_the_stream_holds_in_memory(claim: Claim) -> None:
    async def work() -> None:
        await claim.check(MemoryWorld(claim))

    run_whole(work())
