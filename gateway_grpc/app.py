"""Builds the gateway, runs it, and closes everything in reverse order."""

import asyncio
from collections.abc import Sequence

import structlog

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.admission import Admission
from gateway_grpc.deferred_history import DeferredHistory
from gateway_grpc.event_hints import EventHints
from gateway_grpc.limits import CallLimits
from gateway_grpc.lookup import Lookup
from gateway_grpc.server import Server
from gateway_grpc.service import SmsGateway
from messaging.runtime.config import Settings
from messaging.runtime.lifetime import Lifetime, process_lifetime
from messaging.runtime.memory import give_back
from messaging.runtime.problems import NO_STORAGE_LIMIT
from messaging.runtime.providers_file import Provider
from messaging.stream.capacity import server_capacity
from messaging.stream.fleet import UNLIMITED, FleetView

_log = structlog.get_logger(__name__)
_LINGER_S = 0.3


async def run(settings: Settings, providers: Sequence[Provider]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; raises SetupError or StreamDown when it cannot start."""
    async with process_lifetime(settings, providers, "gateway", answers_health=False) as life:
        capacity = settings.gateway.storage_max_bytes
        view = FleetView(life.connection, providers, settings.fleet.room_s, capacity_bytes=capacity)
        await life.patiently(view.refresh_breakers)
        await life.patiently(view.refresh_backlog)
        if not view.storage_limited and settings.servers.replicas == 1:
            view.capacity_bytes = await server_capacity(life.connection) or 0
            _log.info("the account has no storage limit: the server's was found", bytes=view.capacity_bytes)
            await life.patiently(view.refresh_backlog)
        if not view.storage_limited:
            life.problems.report(NO_STORAGE_LIMIT, UNLIMITED, blocks=False)
        await _serve(settings, life, view)


async def _serve(settings: Settings, life: Lifetime, view: FleetView) -> None:
    gateway = settings.gateway
    admission = Admission(view, gateway.max_backlog, gateway.max_backlog_per_provider, gateway.storage_fill)
    history = DeferredHistory()
    acceptance = Acceptance(life.connection, view, admission, gateway, life.tracer, life.clock, history)
    lookup = Lookup(life.connection, history, acceptance.key, settings.process.pod)
    limits, hints = CallLimits(gateway), EventHints(life.connection)
    service = SmsGateway(acceptance, lookup, history, life.tracer, gateway, limits, hints)
    server = Server(service, life.tracer, gateway, limits)
    await server.start()
    _log.info("listening", port=server.port)
    async with asyncio.TaskGroup() as group:
        health = group.create_task(server.watch_health(view, life.problems), name="health")
        background = [
            group.create_task(view.run(), name="fleet-view"),
            group.create_task(hints.run(), name="event-hints"),
            group.create_task(give_back(), name="memory"),
            group.create_task(life.watch_clock(), name="clock-watch"),
            group.create_task(history.open(settings.servers.database.reveal(), life.stack), name="history"),
        ]
        await life.stopping.wait()
        _log.info("draining")
        health.cancel()
        acceptance.close()
        hints.wake_all()
        await server.drain(_LINGER_S, settings.process.drain_s)
        for task in background:
            task.cancel()
