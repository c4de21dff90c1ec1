"""Restores cancellations that a library has swallowed.

`asyncio.wait_for` of Python 3.11 drops a cancellation that arrives together with its result. nats-py waits that way for
every answer, so that a busy loop over it did not end when it was cancelled, in 7 of 10 trials. The task itself still
counts the cancellation.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def cancellable(call: Awaitable[_T]) -> _T:
    """Await a library's call; raises CancelledError even if the library has swallowed it."""
    try:
        return await call
    finally:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
