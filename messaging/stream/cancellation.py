"""Restores cancellations that a library has swallowed.

`asyncio.wait_for` of Python 3.11 drops a cancellation that arrives together with its result. nats-py waits that way for
every answer, so that a busy loop over it did not end when it was cancelled, in 7 of 10 trials. The task itself still
counts the cancellation. A loop inside nats-py, such as its attempts to connect, goes on for ever after a cancellation
that was dropped; so the call is cancelled again until it has ended.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

_CANCEL_AGAIN_S = 0.1


async def cancellable(call: Awaitable[_T]) -> _T:
    """Await a library's call; raises CancelledError even if the library has swallowed it."""
    try:
        return await call
    finally:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


async def within(call: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
    """Run a library's call for at most `timeout_s`; raises TimeoutError. It has ended when this returns or raises."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait((task,), timeout=timeout_s)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=_CANCEL_AGAIN_S)
