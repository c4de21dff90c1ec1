"""Assembles and runs the dispatcher's three processes: work, coordinate, project."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.breaker.breaker import Breaker, BreakerLimits
from dispatcher.breaker.silence import Silence
from dispatcher.breaker.sync import BreakerSync
from dispatcher.breaker.watched_client import WatchedClient
from dispatcher.duties.backlog_report import BacklogReport
from dispatcher.duties.forwarder import Forwarder
from dispatcher.duties.scheduler import Scheduler
from dispatcher.duties.source_watch import SourceWatch
from dispatcher.lanes import run_lanes
from dispatcher.rate.allocator import Timing
from dispatcher.rate.coordinator import Coordinator
from dispatcher.rate.lease import LeaseHolder
from dispatcher.rate.pacer import Pacer
from dispatcher.transport.client import ProviderClient
from dispatcher.transport.http import open_client
from dispatcher.work.attempt import AttemptRunner
from dispatcher.work.dispatch_context import DispatchContext
from dispatcher.work.event_log import EventLog
from dispatcher.work.intake import Intake
from dispatcher.work.job_finisher import JobFinisher
from dispatcher.work.job_reader import JobReader
from dispatcher.work.job_starter import JobStarter
from dispatcher.work.job_tasks import JobTasks
from dispatcher.work.look_ups import LookUps
from dispatcher.work.recovery import Recovery
from dispatcher.work.verdict import Policy
from dispatcher.work.worker import Demand, Worker
from messaging.errors import ConfigError
from messaging.model import Lane
from messaging.runtime.config import FleetSettings, Settings
from messaging.runtime.lifetime import Lifetime, process_lifetime, run_until
from messaging.runtime.problems import Problems
from messaging.runtime.providers_file import Provider
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard, LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.fleet import FleetView
from providers.catalogue import dialect_of

_log = structlog.get_logger(__name__)

_BACKLOG_EVERY_S = 1.0


def timing_of(fleet: FleetSettings) -> Timing:
    """Read the timing of leases and shares from the settings."""
    return Timing(fleet.lease_s, fleet.renew_s, fleet.window_s, leader_ttl_s=max(3.0, fleet.lease_s))


def policy_of(fleet: FleetSettings) -> Policy:
    """Read the policy for verdicts from the settings."""
    chosen = {
        pb.PRIORITY_OTP: fleet.ambiguous_otp,
        pb.PRIORITY_NORMAL: fleet.ambiguous_other,
        pb.PRIORITY_BULK: fleet.ambiguous_other,
        pb.PRIORITY_UNSPECIFIED: fleet.ambiguous_other,
    }
    resend = frozenset(priority for priority, word in chosen.items() if word == "resend")
    return Policy(fleet.retry_delays_s, resend, fleet.lookup_after_s, resends=fleet.ambiguous_resends)


def breaker_limits_of(fleet: FleetSettings, provider: Provider) -> BreakerLimits:
    """Read the breaker's limits from the settings. A probe may take the cooldown and one call's time-out."""
    return BreakerLimits(
        failures=fleet.breaker_failures,
        calls=fleet.breaker_calls,
        window_s=fleet.breaker_window_s,
        cooldown_s=fleet.breaker_cooldown_s,
        refusals=fleet.breaker_refusals,
        probe_timeout_s=fleet.breaker_cooldown_s + provider.timeout_s,
    )


def _chosen(names: Sequence[str] | None, providers: Sequence[Provider]) -> list[Provider]:
    """Find the providers that are named, None means all; raises ConfigError with every name that is unknown."""
    known = {one.name: one for one in providers}
    wanted = list(known) if names is None else list(dict.fromkeys(names))
    there = ", ".join(known)
    if unknown := [name for name in wanted if name not in known]:
        sentence = "{} is not in the providers file; there are {}"
        raise ConfigError([("--provider", sentence.format(name, there)) for name in unknown])
    return [known[name] for name in wanted]


async def work(settings: Settings, providers: Sequence[Provider], names: Sequence[str] | None) -> None:
    """Send the messages of the named providers (None: of all) until SIGTERM, then drain."""
    clients = [(provider, open_client(provider, dialect_of(provider))) for provider in _chosen(names, providers)]
    async with process_lifetime(settings, providers, "dispatcher") as life:
        for _, client in clients:
            life.stack.push_async_callback(client.aclose)
        await life.by_the_clock(partial(_send, settings, providers, life, clients))


async def _send(
    settings: Settings,
    providers: Sequence[Provider],
    life: Lifetime,
    clients: Sequence[tuple[Provider, ProviderClient]],
    stopping: asyncio.Event,
) -> None:
    """Send the messages of some providers until `stopping`, then drain. The lanes share what is the same for all."""
    fleet = settings.fleet
    view = FleetView(life.connection, providers, fleet.room_s, backlog_every_s=_BACKLOG_EVERY_S)
    await life.patiently(view.refresh_breakers)
    await life.patiently(view.refresh_backlog)
    limits = LimitsBoard(Bucket(life.connection, topo.LIMITS_BUCKET))
    lanes = {
        provider.name: partial(_send_lane, settings, life, view, limits, provider, client, _problems_of(life, clients))
        for provider, client in clients
    }
    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(view.run(), name="fleet-view"),
            group.create_task(_forwarder(settings, life, view, limits, clients[0][0]).run(), name="forwarder"),
        ]
        await run_lanes(lanes, stopping, life.problems)
        for task in background:
            task.cancel()


async def _send_lane(
    settings: Settings,
    life: Lifetime,
    view: FleetView,
    limits: LimitsBoard,
    provider: Provider,
    provider_client: ProviderClient,
    problems: Callable[[str], Problems],
    stopping: asyncio.Event,
) -> None:
    """Send the messages of one provider until `stopping`, then drain."""
    name, fleet = provider.name, settings.fleet
    pacer = Pacer(fleet.window_s)
    board = BreakerBoard(Bucket(life.connection, topo.BREAKERS_BUCKET))
    silence = Silence()
    provider_client = WatchedClient(provider_client, silence)
    context = _context(settings, life, view, provider, can_look_up=provider_client.can_look_up)
    limits_of_breaker = breaker_limits_of(fleet, provider)
    breaker = BreakerSync(board, name, Breaker(context.pod, limits_of_breaker), pacer, silence, watched=True)
    await life.patiently(breaker.refresh)
    worker = await assemble_worker(
        settings, life, context=context, provider_client=provider_client, breaker=breaker, pacer=pacer
    )
    demand = Demand(provider.rate_per_s, worker.intake, pacer, breaker)
    lease = LeaseHolder(
        board=limits,
        pod=context.pod,
        provider=name,
        pacer=pacer,
        timing=timing_of(fleet),
        demand=demand,
        problems=problems(name),
        idle=demand.idle,
    )
    _log.info("working", provider=name)
    try:
        async with view.listening(name, worker.intake.note_count, breaker.note_newest), asyncio.TaskGroup() as group:
            background = [
                group.create_task(breaker.run(), name=f"breaker-sync-{name}"),
                group.create_task(lease.run(), name=f"lease-{name}"),
            ]
            await worker.run(stopping, settings.process.drain_s)
            for task in background:
                task.cancel()
    finally:
        await lease.give_back()


def _context(
    settings: Settings, life: Lifetime, view: FleetView, provider: Provider, *, can_look_up: bool
) -> DispatchContext:
    """Make what one lane knows.

    Its pod has a new name after each start: a restarted pod does not know what its predecessor sent in the last second,
    so it must not use that pod's share.
    """
    return DispatchContext(
        provider=provider,
        pod=f"{settings.process.pod}-{secrets.token_hex(3)}",
        policy=policy_of(settings.fleet),
        provider_facts=view.facts,
        can_look_up=can_look_up,
        now=life.clock.now,
    )


def _problems_of(life: Lifetime, clients: Sequence[object]) -> Callable[[str], Problems]:
    """Give the problems of one provider: in a process with a single one, those of the process."""
    return life.problems.of if len(clients) > 1 else lambda _name: life.problems


def _forwarder(
    settings: Settings, life: Lifetime, view: FleetView, limits: LimitsBoard, provider: Provider
) -> Forwarder:
    return Forwarder(
        connection=life.connection,
        view=view,
        limits=limits,
        tracer=life.tracer,
        context=_context(settings, life, view, provider, can_look_up=False),
        settings=settings,
    )


async def assemble_worker(
    settings: Settings,
    life: Lifetime,
    *,
    context: DispatchContext,
    provider_client: ProviderClient,
    breaker: BreakerSync,
    pacer: Pacer,
) -> Worker:
    """Assemble the worker of one pod; raises StreamDown."""
    name, connection, tracer = context.provider.name, life.connection, life.tracer
    consumers = {lane: await connection.consumer(topo.SEND, topo.dispatch_consumer(name, lane)) for lane in Lane}
    intake, event_log = Intake(consumers), EventLog(connection, context.now)
    look_ups = LookUps(context=context, provider_client=provider_client, pacer=pacer, tracer=tracer)
    recovery = Recovery(context, look_ups, event_log)
    attempts = AttemptRunner(
        context=context,
        provider_client=provider_client,
        event_log=event_log,
        pacer=pacer,
        breaker=breaker,
        tracer=tracer,
    )
    finisher = JobFinisher(intake, event_log, recovery)
    tasks = JobTasks(on_failure=finisher.release, on_corrupt=finisher.bury)
    starter = JobStarter(
        context=context,
        pacer=pacer,
        breaker=breaker,
        attempts=attempts,
        recovery=recovery,
        finisher=finisher,
        tasks=tasks,
        tracer=tracer,
        intake=intake,
    )
    return Worker(
        intake=intake,
        reader=JobReader(name, context.pod, event_log, tracer, settings.servers.event_days * 86_400, context.now),
        starter=starter,
        finisher=finisher,
        tasks=tasks,
        attempts=attempts,
        ack_wait_s=settings.fleet.ack_wait_s,
    )


async def coordinate(settings: Settings, providers: Sequence[Provider]) -> None:
    """Divide the fleet's rate, schedule messages and watch the work queue's sources, until SIGTERM."""
    async with process_lifetime(settings, providers, "coordinator") as life:
        rates = {provider.name: provider.rate_per_s for provider in providers}
        board = LimitsBoard(Bucket(life.connection, topo.LIMITS_BUCKET))
        coordinator = Coordinator(
            board, settings.process.pod, settings.fleet.rate_per_s, rates, timing_of(settings.fleet)
        )

        async def work_until(stopping: asyncio.Event) -> None:
            _log.info("coordinating")
            await run_until(
                stopping,
                coordinator=coordinator.run(),
                scheduler=Scheduler(life.connection, settings.fleet.ack_wait_s, settings.gateway.window_s).run(),
                source_watch=SourceWatch(life.connection).run(),
                backlog=BacklogReport(life.connection, board, settings.process.pod).run(),
            )
            await coordinator.resign()

        await life.by_the_clock(work_until)


async def project(settings: Settings, providers: Sequence[Provider]) -> None:
    """Write the history to PostgreSQL until SIGTERM."""
    from dispatcher.duties.projector import Projector
    from dispatcher.duties.sweeper import Sweeper
    from messaging.store.engine import open_engine
    from messaging.store.reader import HistoryReader
    from messaging.store.writer import HistoryWriter

    async with process_lifetime(settings, providers, "projector") as life:
        engine = open_engine(settings.servers.database.reveal())
        life.stack.push_async_callback(engine.dispose)
        projector = Projector(life.connection, HistoryWriter(engine), life.tracer, settings.fleet.ack_wait_s)
        kept_s = settings.servers.event_days * 86_400
        sweeper = Sweeper(life.connection, HistoryReader(engine), settings.process.pod, kept_s, life.clock.now)

        async def work_until(stopping: asyncio.Event) -> None:
            _log.info("projecting")
            await run_until(stopping, projector=projector.run(), sweeper=sweeper.run())

        await life.by_the_clock(work_until)
