"""Start and stop of every process that uses the stream.

The start sets up signals, traces, health checks, the connection and the streams; the stop closes them in reverse order.
A process waits for the stream, and for the right time, however long that takes: only what an operator must fix in the
settings ends it. Everything that a process opens on `Lifetime.stack` is closed before the rest. The stop may take
`ProcessSettings.drain_s` seconds; a pod's grace period must be longer.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import structlog

from messaging.errors import StoppedEarly, StreamDown, StreamFull
from messaging.runtime import telemetry
from messaging.runtime.config import Settings
from messaging.runtime.health import Opening, health_server
from messaging.runtime.problems import CLOCK, NO_STREAM, Problems
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import Tracer
from messaging.stream import setup
from messaging.stream.access import access_of
from messaging.stream.clock import StreamClock, sentence
from messaging.stream.connection import open_connection
from messaging.stream.interface import ApiError, Connection
from messaging.stream.notices import NoticeBoard, post

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_CONNECT_S = 5.0
_TRY_AGAIN_S = 0.5


@attrs.frozen
class Lifetime:
    """What a process has from start to stop; SIGTERM and SIGINT set `stopping`."""

    stopping: asyncio.Event
    tracer: Tracer
    connection: Connection
    stack: contextlib.AsyncExitStack
    problems: Problems = attrs.Factory(Problems)
    clock: StreamClock = attrs.field()

    @clock.default
    def _clock(self) -> StreamClock:
        return StreamClock(self.connection)

    async def patiently(self, once: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat `once` until the stream answers; raises StoppedEarly when the process is told to stop."""
        return await _until_stopped(self.stopping, _patiently(once, self.problems))

    async def watch_clock(self) -> None:
        """Say whether the clock is right, until cancelled; for a process that goes on while it is wrong."""
        while True:
            await _until_right(self.clock, self.problems)
            await self.clock.changes()

    async def by_the_clock(self, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        """Run `work(stopping)` until the process stops; a wrong clock ends it until it is right again."""
        while not self.stopping.is_set():
            stopping = asyncio.Event()
            watch = asyncio.create_task(self._stop_work(stopping), name="clock-watch")
            try:
                await work(stopping)
            finally:
                watch.cancel()
                await asyncio.wait({watch})
            if not self.stopping.is_set():
                await _until_stopped(self.stopping, _until_right(self.clock, self.problems))

    async def _stop_work(self, stopping: asyncio.Event) -> None:
        """Set `stopping` when the process stops or its clock is wrong."""
        told = asyncio.create_task(self.stopping.wait(), name="stopping")
        try:
            while self.clock.right and not told.done():
                compared = asyncio.create_task(self.clock.changes(), name="compared")
                await asyncio.wait({told, compared}, return_when=asyncio.FIRST_COMPLETED)
                compared.cancel()
        finally:
            told.cancel()
        if not self.clock.right:
            self.problems.report(CLOCK, sentence(self.clock.ahead_s))
        stopping.set()


@contextlib.asynccontextmanager
async def process_lifetime(
    settings: Settings, providers: Sequence[Provider], service: str, *, answers_health: bool = True
) -> AsyncIterator[Lifetime]:
    """Start and stop one process; raises SetupError when it can never start, StoppedEarly when it was told to stop.

    `answers_health` is False for a process that answers calls and health checks on the gateway's port: until it does,
    this answers the health checks there.
    """
    process, stopping, problems, opening = settings.process, _stop_event(), Problems(), Opening()
    async with contextlib.AsyncExitStack() as stack:
        tracer = stack.enter_context(telemetry.open_tracer(process, service))
        listen = process.health_listen if answers_health else settings.gateway.listen
        health = contextlib.AsyncExitStack()
        stack.push_async_callback(health.aclose)
        checks = health_server(listen, opening, stopping, problems)
        await health.enter_async_context(checks)
        begin = _begin(stack, settings, [provider.name for provider in providers], problems)
        connection = opening.connection = await _until_stopped(stopping, begin)
        clock = StreamClock(connection)
        background = await stack.enter_async_context(_background())
        background("clock", clock.run())
        background("notices", post(NoticeBoard(connection), process.pod, service, problems))
        await _until_stopped(stopping, _patiently(clock.compare, problems))
        await _until_stopped(stopping, _until_right(clock, problems))
        if not answers_health:
            await health.aclose()
        yield Lifetime(stopping, tracer, connection, stack, problems, clock)
    _log.info("stopped")


async def _begin(
    stack: contextlib.AsyncExitStack, settings: Settings, names: list[str], problems: Problems
) -> Connection:
    """Connect to the stream and set it up, however long that takes."""
    servers = settings.servers
    url, pod, timeout_s = servers.nats.reveal(), settings.process.pod, settings.gateway.publish_timeout_s

    async def connect() -> Connection:
        opened = open_connection(url, pod, access_of(servers), timeout_s=timeout_s, connect_timeout_s=_CONNECT_S)
        return await stack.enter_async_context(opened)

    connection = await _patiently(connect, problems)
    await _patiently(partial(setup.ensure, connection, settings, names), problems)
    return connection


async def _patiently(once: Callable[[], Awaitable[_T]], problems: Problems) -> _T:
    while True:
        try:
            found = await once()
        except (StreamDown, StreamFull, ApiError) as exc:
            problems.report(NO_STREAM, f"waiting for the message stream, which cannot be used yet: {exc}")
        else:
            problems.clear(NO_STREAM)
            return found
        await asyncio.sleep(_TRY_AGAIN_S)


async def _until_right(clock: StreamClock, problems: Problems) -> None:
    while not clock.right:
        problems.report(CLOCK, sentence(clock.ahead_s))
        await clock.changes()
    problems.clear(CLOCK)


async def _until_stopped(stopping: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work`; raises StoppedEarly, and cancels it, when `stopping` is set first."""
    working = asyncio.create_task(work, name="waiting-to-begin")
    told = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise StoppedEarly
    finally:
        for task in (working, told):
            task.cancel()
        await asyncio.wait({working, told})


@contextlib.asynccontextmanager
async def _background() -> AsyncIterator[Callable[[str, Coroutine[Any, Any, None]], None]]:
    """Give a function that runs work beside the process's own until the context ends."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield lambda name, work: tasks.append(asyncio.create_task(work, name=name))
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _stop_event() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def run_until(stopping: asyncio.Event, **works: Coroutine[Any, Any, None]) -> None:
    """Run coroutines as named tasks until `stopping` is set; if one of them fails, all end."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work, name=name) for name, work in works.items()]
        await stopping.wait()
        for task in tasks:
            task.cancel()
