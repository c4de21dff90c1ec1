"""How every process that works with the stream begins and ends.

It begins with signals, traces, the connection, the streams as they must be, and answers to health checks; it ends in
reverse. What a process opens on `Lifetime.stack` is closed before all of these. How long the end may take is
`ProcessSettings.drain_s`, which a pod's grace period must exceed.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import attrs
import structlog

from messaging.runtime import telemetry
from messaging.runtime.config import Settings
from messaging.runtime.health import answering
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import Tracer
from messaging.stream import setup
from messaging.stream.access import access_of
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection

_log = structlog.get_logger(__name__)


@attrs.frozen
class Lifetime:
    """What a process has from its start to its end; `stopping` is set by SIGTERM and SIGINT."""

    stopping: asyncio.Event
    tracer: Tracer
    connection: Connection
    stack: contextlib.AsyncExitStack


@contextlib.asynccontextmanager
async def living(
    settings: Settings, providers: Sequence[Provider], service: str, *, answers_health: bool = True
) -> AsyncIterator[Lifetime]:
    """Begin and end one process; raises SetupError or StreamDown when it cannot begin.

    `answers_health` is False for a process that answers health checks on a port of its own.
    """
    servers, process = settings.servers, settings.process
    stopping = _stop_event()
    async with contextlib.AsyncExitStack() as stack:
        tracer = stack.enter_context(telemetry.open_tracer(process, service))
        connection = await stack.enter_async_context(
            open_connection(
                servers.nats.reveal(),
                process.pod,
                access_of(servers),
                timeout_s=settings.gateway.publish_timeout_s,
            )
        )
        names = [provider.name for provider in providers]
        await setup.ensure(connection, settings, names, patience_s=setup.LEADERLESS_S)
        if answers_health:
            await stack.enter_async_context(answering(process.health_listen, connection, stopping))
        yield Lifetime(stopping, tracer, connection, stack)
    _log.info("stopped")


def _stop_event() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def run_until(stopping: asyncio.Event, **works: Coroutine[Any, Any, None]) -> None:
    """Run named works until told to stop; one that breaks ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work, name=name) for name, work in works.items()]
        await stopping.wait()
        for task in tasks:
            task.cancel()
