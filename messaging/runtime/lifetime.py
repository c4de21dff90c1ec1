"""Start and stop of every process that uses the stream.

The start sets up signals, traces, the connection, the streams and the health checks; the stop closes them in reverse
order. Everything that a process opens on `Lifetime.stack` is closed before them. The stop may take
`ProcessSettings.drain_s` seconds; a pod's grace period must be longer.
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
from messaging.runtime.health import health_server
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import Tracer
from messaging.stream import setup
from messaging.stream.access import access_of
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection

_log = structlog.get_logger(__name__)


@attrs.frozen
class Lifetime:
    """What a process has from start to stop; SIGTERM and SIGINT set `stopping`."""

    stopping: asyncio.Event
    tracer: Tracer
    connection: Connection
    stack: contextlib.AsyncExitStack


@contextlib.asynccontextmanager
async def process_lifetime(
    settings: Settings, providers: Sequence[Provider], service: str, *, answers_health: bool = True
) -> AsyncIterator[Lifetime]:
    """Start and stop one process; raises SetupError or StreamDown when it cannot start.

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
            await stack.enter_async_context(health_server(process.health_listen, connection, stopping))
        yield Lifetime(stopping, tracer, connection, stack)
    _log.info("stopped")


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
