"""Processes of a test in virtual time: each can be killed at any step, and then all of its tasks end.

A process has a connection of its own to the memory stream. Its plan hears of every step before and after its effect
(see `tests.memory_stream.connection`), and of those that the test itself names by `step`; it may raise Crash there.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from tests.memory_stream import Crash, MemoryConnection, MemoryStream

Plan = Callable[[str], None]

_current: "contextvars.ContextVar[Process | None]" = contextvars.ContextVar("process", default=None)


def _go_on(_step: str) -> None:
    """Let every step happen."""


def _record(
    loop: asyncio.AbstractEventLoop, work: Any, *, context: contextvars.Context | None = None, **rest: Any
) -> "asyncio.Task[Any]":
    """Create a task and record it in the process whose task creates it."""
    task = asyncio.Task(work, loop=loop, context=context, **rest)
    process = _current.get() if context is None else context.get(_current)
    if process is not None:
        process.tasks.add(task)
    return task


class Process:
    """One process; `crashed` is set when its plan has crashed it."""

    def __init__(self, stream: MemoryStream, plan: Plan = _go_on) -> None:
        asyncio.get_running_loop().set_task_factory(_record)
        self.connection = MemoryConnection(stream, self._at_step)
        self.crashed = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._plan = plan

    def _at_step(self, name: str) -> None:
        try:
            self._plan(name)
        except Crash:
            self.connection.kill()
            self.crashed.set()
            raise

    async def step(self, name: str) -> None:
        """Take a step that is none of the stream's, so that it happens also while that is away."""
        await asyncio.sleep(0)
        if self.crashed.is_set():
            raise Crash(name)
        self._at_step(name)

    def start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something as a task of this process."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    async def kill(self) -> None:
        """End all of its tasks at once."""
        self.crashed.set()
        self.connection.kill()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
