"""Keeps what a process holds from being given to another one, however long the work or the wait takes."""

import asyncio
from collections.abc import Callable, Iterable

from messaging.stream.interface import Delivery

_ROUNDS = 4
"""Extensions in one `ack_wait`: two may be lost, or the process stand still for half of it, and nothing comes again."""


async def extend_acks(held: Callable[[], Iterable[Delivery]], ack_wait_s: float) -> None:
    """Tell the server every so often that work goes on with everything `held` gives, until cancelled."""
    while True:
        await asyncio.sleep(ack_wait_s / _ROUNDS)
        for delivery in list(held()):
            await delivery.keep()
