"""What a claim about the stream works with: a stream of its own, two connections to it, and shorthands.

A claim is an async function that takes a World, registered with `claim`. Time passes in it by `asyncio.sleep`; on the
memory stream these seconds are virtual.
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
    """`one` and `other` are connections to the same stream; requests time out after 0.3 s."""

    @property
    def one(self) -> Connection: ...

    @property
    def other(self) -> Connection: ...

    def answers_lost(self) -> AbstractAsyncContextManager[None]:
        """Lose all answers to `one` in this context; its requests still take effect."""


@attrs.frozen
class Claim:
    """A claim, the settings of its stream, and whether the set-up runs before it."""

    check: Callable[[World], Awaitable[None]]
    settings: Settings
    made: bool

    def __str__(self) -> str:
        return self.check.__name__


CLAIMS: list[Claim] = []


def claim(
    settings: Settings = SETTINGS, *, made: bool = True
) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[World], Awaitable[None]]]:
    """Register a claim."""

    def listed(check: Callable[[World], Awaitable[None]]) -> Callable[[World], Awaitable[None]]:
        CLAIMS.append(Claim(check, settings, made))
        return check

    return listed


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> float:
    """Wait until a condition holds; returns the Unix time at which it was first seen to hold."""
    end = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.005)
    return time.time()


async def last(connection: Connection, stream: str, subject: str) -> Record:
    """Read the newest message of a subject; it must exist."""
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
