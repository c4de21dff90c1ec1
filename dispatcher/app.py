"""Puts the dispatcher's three processes together: work, coordinate, project."""

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import structlog
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.attempt import Attempt, Circumstances
from dispatcher.breaker import Breaker, Limits
from dispatcher.coordinator import Coordinator
from dispatcher.feed import FeedWatch
from dispatcher.guard import Guard
from dispatcher.health import answering
from dispatcher.intake import Intake
from dispatcher.lease import LeaseHolder
from dispatcher.pacer import Pacer
from dispatcher.recovery import Recovery
from dispatcher.scheduler import Scheduler
from dispatcher.scribe import Scribe
from dispatcher.transport.client import ProviderClient
from dispatcher.transport.http import open_client
from dispatcher.verdict import Policy
from dispatcher.worker import Worker
from messaging import telemetry
from messaging.config import Fleet, Settings
from messaging.errors import ConfigError
from messaging.limiter import Timing
from messaging.model import Lane
from messaging.providers_file import Provider
from messaging.spans import Tracer
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.access import access_of
from messaging.stream.buckets import Bucket
from messaging.stream.connection import Connection, open_connection
from messaging.stream.consumer import open_consumer
from messaging.stream.fleet import FleetView
from providers.catalogue import dialect_of

_log = structlog.get_logger(__name__)

_BACKLOG_EVERY_S = 1.0


def timing_of(fleet: Fleet) -> Timing:
    """Take the limiter's timing from the settings."""
    return Timing(fleet.lease_s, fleet.renew_s, fleet.window_s, leader_ttl_s=max(3.0, fleet.lease_s))


def policy_of(fleet: Fleet) -> Policy:
    """Take the verdicts' policy from the settings."""
    chosen = {
        pb.PRIORITY_OTP: fleet.ambiguous_otp,
        pb.PRIORITY_NORMAL: fleet.ambiguous_other,
        pb.PRIORITY_BULK: fleet.ambiguous_other,
        pb.PRIORITY_UNSPECIFIED: fleet.ambiguous_other,
    }
    resend = frozenset(priority for priority, word in chosen.items() if word == "resend")
    return Policy(fleet.retry_delays_s, resend, fleet.lookup_after_s)


def limits_of(fleet: Fleet, provider: Provider) -> Limits:
    """Take the breaker's limits from the settings; a probe has its cooldown and one call's time to end."""
    return Limits(
        fleet.breaker_failures,
        fleet.breaker_calls,
        fleet.breaker_window_s,
        fleet.breaker_cooldown_s,
        fleet.breaker_cooldown_s + provider.timeout_s,
    )


def stop_event() -> asyncio.Event:
    """Give the event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


@contextlib.asynccontextmanager
async def _joined(
    settings: Settings, providers: Sequence[Provider], stopping: asyncio.Event
) -> AsyncIterator[Connection]:
    """Connect to the stream, see that it is as it must be, and answer health checks meanwhile."""
    servers, process = settings.servers, settings.process
    limit_s = settings.door.publish_timeout_s
    async with open_connection(servers.nats.reveal(), process.pod, access_of(servers), timeout_s=limit_s) as connection:
        names = [provider.name for provider in providers]
        await setup.ensure(connection, settings, names, patience_s=setup.LEADERLESS_S)
        async with answering(process.health_listen, connection, stopping):
            yield connection


async def _until(stopping: asyncio.Event, *works: Coroutine[Any, Any, None]) -> None:
    """Run works until told to stop; one that breaks ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        await stopping.wait()
        for task in tasks:
            task.cancel()


def _named(name: str, providers: Sequence[Provider]) -> Provider:
    for one in providers:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in providers)
    raise ConfigError([("--provider", f"{name} is not in the providers file; there are {known}")])


async def work(settings: Settings, providers: Sequence[Provider], name: str) -> None:
    """Send the messages of one provider until SIGTERM, then drain."""
    stopping = stop_event()
    provider = _named(name, providers)
    adapter = open_client(provider, dialect_of(provider))
    fleet = settings.fleet
    # A name for this life only: a restarted pod must never take over the share of the one before, whose last second
    # of sends it does not know.
    pod = f"{settings.process.pod}-{secrets.token_hex(3)}"
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(adapter.aclose)
        tracer = stack.enter_context(telemetry.open_tracer(settings.process, "dispatcher"))
        connection = await stack.enter_async_context(_joined(settings, providers, stopping))
        view = FleetView(connection, providers, fleet.room_s, backlog_every_s=_BACKLOG_EVERY_S)
        await view.refresh_breakers()
        await view.refresh_backlog()
        pacer = Pacer(fleet.window_s)
        guard = _guard(connection, provider, pod, fleet, pacer)
        await guard.refresh()
        around = Circumstances(provider, pod, policy_of(fleet), view.facts, adapter.can_look_up)
        worker = await _worker(settings, connection, around, adapter, guard, pacer, tracer)
        bucket = Bucket(connection, topo.LIMITS_BUCKET)
        lease = LeaseHolder(bucket, pod, name, pacer, timing_of(fleet), worker.demand)
        _log.info("working", provider=name)
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(task) for task in (view.run(), guard.run(), lease.run())]
            await worker.run(stopping, settings.process.drain_s)
            for task in beside:
                task.cancel()
        await lease.give_back()
    _log.info("stopped", provider=name)


def _guard(connection: Connection, provider: Provider, pod: str, fleet: Fleet, pacer: Pacer) -> Guard:
    return Guard(
        Bucket(connection, topo.BREAKERS_BUCKET), provider.name, Breaker(pod, limits_of(fleet, provider)), pacer
    )


async def _worker(
    settings: Settings,
    connection: Connection,
    around: Circumstances,
    adapter: ProviderClient,
    guard: Guard,
    pacer: Pacer,
    tracer: Tracer,
) -> Worker:
    scribe = Scribe(connection)
    name = around.provider.name
    consumers = {lane: await open_consumer(connection, topo.SEND, topo.dispatch_consumer(name, lane)) for lane in Lane}
    return Worker(
        around,
        Intake(consumers),
        pacer,
        guard,
        scribe,
        Attempt(around, adapter, scribe, pacer, guard, tracer),
        Recovery(around, adapter, scribe, tracer),
        tracer,
        settings.fleet.ack_wait_s,
        settings.servers.event_days * 86_400,
    )


async def coordinate(settings: Settings, providers: Sequence[Provider]) -> None:
    """Divide the fleet's rate, keep the schedule, and see that the queue is fed, until SIGTERM."""
    stopping = stop_event()
    async with _joined(settings, providers, stopping) as connection:
        rates = {provider.name: provider.rate_per_s for provider in providers}
        bucket = Bucket(connection, topo.LIMITS_BUCKET)
        coordinator = Coordinator(
            bucket, settings.process.pod, settings.fleet.rate_per_s, rates, timing_of(settings.fleet)
        )
        _log.info("coordinating")
        scheduler = Scheduler(connection, settings.fleet.ack_wait_s)
        await _until(stopping, coordinator.run(), scheduler.run(), FeedWatch(connection).run())
        await coordinator.resign()
    _log.info("stopped")


async def project(settings: Settings, providers: Sequence[Provider]) -> None:
    """Write the history into PostgreSQL until SIGTERM."""
    from dispatcher.projector import Projector
    from dispatcher.sweeper import Sweeper
    from messaging.store.engine import open_engine
    from messaging.store.history import History
    from messaging.store.messages import Messages

    stopping = stop_event()
    async with contextlib.AsyncExitStack() as stack:
        tracer = stack.enter_context(telemetry.open_tracer(settings.process, "projector"))
        connection = await stack.enter_async_context(_joined(settings, providers, stopping))
        engine = open_engine(settings.servers.database.reveal())
        stack.push_async_callback(engine.dispose)
        _log.info("projecting")
        messages = Messages(engine)
        projector = Projector(connection, History(engine), tracer, settings.fleet.ack_wait_s)
        sweeper = Sweeper(connection, messages, settings.process.pod, settings.servers.event_days * 86_400)
        await _until(stopping, projector.run(), sweeper.run())
    _log.info("stopped")
