"""Puts the gateway together, runs it, and takes it apart in reverse."""

import asyncio
import contextlib
import signal
from collections.abc import Sequence

import structlog

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.admission import Admission
from gateway_grpc.late_history import LateHistory
from gateway_grpc.lookup import Lookup
from gateway_grpc.server import Server
from gateway_grpc.service import SmsGateway
from messaging.runtime import telemetry
from messaging.runtime.config import Settings
from messaging.runtime.providers_file import Provider
from messaging.stream import setup
from messaging.stream.access import access_of
from messaging.stream.connection import open_connection
from messaging.stream.fleet import UNLIMITED, FleetView

_log = structlog.get_logger(__name__)
_LINGER_S = 0.3


async def run(settings: Settings, providers: Sequence[Provider]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; raises SetupError, StreamDown when it cannot begin."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    gateway = settings.gateway
    async with contextlib.AsyncExitStack() as stack:
        tracer = stack.enter_context(telemetry.open_tracer(settings.process, "gateway"))
        connection = await stack.enter_async_context(
            open_connection(
                settings.servers.nats.reveal(),
                settings.process.pod,
                access_of(settings.servers),
                timeout_s=gateway.publish_timeout_s,
            )
        )
        names = [provider.name for provider in providers]
        await setup.ensure(connection, settings, names, patience_s=setup.LEADERLESS_S)
        view = FleetView(connection, providers, settings.fleet.room_s)
        await view.refresh_breakers()
        await view.refresh_backlog()
        if not view.storage_limited:
            _log.warning(UNLIMITED)
        admission = Admission(view, gateway.max_backlog, gateway.max_backlog_per_provider, gateway.storage_fill)
        acceptance = Acceptance(connection, view, admission, gateway, tracer)
        history = LateHistory()
        lookup = Lookup(connection, history, acceptance.key, settings.process.pod)
        service = SmsGateway(acceptance, lookup, history, tracer, gateway.batch_read_ahead)
        server = Server(service, tracer, gateway.listen, gateway.connection_age_s)
        await server.start()
        _log.info("listening", port=server.port)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(view.run(), name="fleet-view"),
                group.create_task(server.watch_health(view), name="health"),
                group.create_task(history.open(settings.servers.database.reveal(), stack), name="history"),
            ]
            await stopping.wait()
            _log.info("draining")
            tasks[1].cancel()
            acceptance.draining = True
            await server.drain(_LINGER_S, settings.process.drain_s)
            for task in tasks:
                task.cancel()
    _log.info("stopped")
