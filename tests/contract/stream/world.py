"""What a claim about the stream is given: a stream of its own, two connections to it, and words to speak of it.

A claim is an async function that takes a World; `claim` puts it on the list. Time passes in it by `asyncio.sleep`: for
the memory stream those seconds are virtual.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from messaging.model import Address
from messaging.runtime.config import FleetSettings, Settings
from messaging.stream import topology as topo
from messaging.stream.interface import Connection, Consumer, Record
from messaging.stream.publisher import Publisher
from tests.integration.streams import an_address, entry_of

ACK_WAIT_S = 1.0
SETTINGS = Settings(fleet=FleetSettings(ack_wait_s=ACK_WAIT_S))
PROVIDERS = ["p1", "p2"]


class World(Protocol):
    """`one` and `other` are connections to the same stream; requests wait 0.3 s for their answers."""

    @property
    def one(self) -> Connection: ...

    @property
    def other(self) -> Connection: ...

    def answers_lost(self) -> AbstractAsyncContextManager[None]:
        """Let no answer reach `one` within; what it asks for is done all the same."""


@attrs.frozen
class Claim:
    """A claim, and the stream that it is made of: its settings, and whether the set-up has run."""

    check: Callable[[World], Awaitable[None]]
    settings: Settings
    made: bool

    def __str__(self) -> str:
        return self.check.__name__


CLAIMS: list[Claim] = []


def claim(
    settings: Settings = SETTINGS, *, made: bool = True
) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[World], Awaitable[None]]]:
    """Put a claim on the list."""

    def listed(check: Callable[[World], Awaitable[None]]) -> Callable[[World], Awaitable[None]]:
        CLAIMS.append(Claim(check, settings, made))
        return check

    return listed


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> float:
    """Wait until something holds; gives the Unix second at which it was seen to."""
    end = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.005)
    return time.time()


async def last(connection: Connection, stream: str, subject: str) -> Record:
    """Read the newest message under a subject; it must be there."""
    record = await connection.last(stream, subject)
    assert record is not None
    return record


async def lane(connection: Connection, name: str = "otp", provider: str = "p1") -> Consumer:
    return await connection.consumer(topo.SEND, topo.dispatch_consumer(provider, name))


async def enqueue(connection: Connection, body: str = "Hello", address: Address | None = None) -> Address:
    """Put a message into p1's lane otp."""
    address = address or an_address()
    await Publisher(connection).enqueue(entry_of(address, body), address, "p1", "otp", budget_s=5)
    return address
