"""Keeps the server from redelivering the messages that a process holds, however long it needs for them."""

import asyncio
from collections.abc import Callable, Iterable

from messaging.stream.interface import Delivery

_ROUNDS = 4
"""Extensions in one `ack_wait`: two may be lost, or the process pause for half of it, and nothing is redelivered."""


async def extend_acks(held: Callable[[], Iterable[Delivery]], ack_wait_s: float) -> None:
    """Extend the ack wait of everything that `held` returns, again and again, until cancelled."""
    while True:
        await asyncio.sleep(ack_wait_s / _ROUNDS)
        for delivery in list(held()):
            await delivery.keep()
