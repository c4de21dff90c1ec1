"""`smsctl up`: the whole system in the foreground, with a status line and a clean stop on Ctrl-C."""

import asyncio
import contextlib
import os
import pathlib
import signal
import socket
import sys
import time
from typing import IO, Any, cast

from rich.console import Console

from messaging.errors import SetupError, StoppedEarly, Unavailable
from messaging.printable import printable, printable_lines
from messaging.runtime.config import read_settings
from messaging.runtime.providers_file import read_providers
from ops.embedded import cluster
from ops.fleet import FleetSnapshot, watching
from ops.screen import Screen
from ops.system import Plan, ProcessFailed, System

_LINE_EVERY_S = 1.0
_QUIET_LINE_EVERY_S = 10.0
_ANSWER_S = 50.0
_RESTARTS_IN_A_MINUTE = 5


def plan_from_environment() -> Plan:
    """Read what to start from the environment; raises ConfigError, SetupError."""
    settings = read_settings(os.environ)
    listen = settings.gateway.listen
    host, _, port = listen.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]") or "0.0.0.0", int(port)))  # noqa: S104
        except (OSError, ValueError) as exc:
            cure = "if another `smsctl up` runs there, it keeps running; to start a second one, choose another address"
            raise SetupError(f"SMSGW_LISTEN: {listen} cannot be used ({exc}): {cure}") from exc
    servers = nats_servers_for(settings.servers.replicas, named="SMSGW_NATS_URL" in os.environ)
    return Plan(pathlib.Path(settings.process.data_folder), listen=listen, nats_servers=servers)


def nats_servers_for(replicas: int, *, named: bool) -> int:
    """Return how many nats-servers to start for so many replicas: one, or a cluster; raises SetupError.

    With `named`, the settings name existing servers, and none is started.
    """
    if named or replicas == 1:
        return 1
    if replicas > cluster.SIZE:
        cure = f"set it to {cluster.SIZE} or less, or SMSGW_NATS_URL to a cluster of your own"
        raise SetupError(
            f"SMSGW_REPLICAS: {replicas} copies need as many servers, and at most {cluster.SIZE} run here: {cure}"
        )
    return cluster.SIZE


async def run_up(plan: Plan) -> int:
    """Run the system until SIGINT, SIGTERM, or its terminal is closed (SIGHUP); returns the exit code."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    screen = Screen(sys.stdout, lambda: loop.call_soon_threadsafe(stopping.set))
    console = Console(file=cast("IO[str]", screen), highlight=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup keeps the system running
        loop.add_signal_handler(signal.SIGHUP, screen.close_for_good if console.is_terminal else stopping.set)
    began = time.monotonic()
    system = System(plan, told=lambda step: console.print(f"  {step} …", highlight=False, markup=False))
    console.print(f"Starting in {system.folder}; Ctrl-C stops it.")
    code = 0
    try:
        await start_unless(stopping, system)
        if await wait_until_serving(system, stopping):
            _print_hints(console, system, time.monotonic() - began)
            await _supervise(system, console, stopping)
        elif not stopping.is_set():
            console.print("The gateway does not answer.", style="red")
            code = 1
    except* SetupError as failed:
        for exc in failed.exceptions:
            console.print(printable_lines(str(exc)), style="red", markup=False, soft_wrap=True)
        code = 1
    except* StoppedEarly:
        pass
    finally:
        await _stop(system, console)
    return code


async def start_unless(stopping: asyncio.Event, system: System) -> None:
    """Start the system; raises StoppedEarly when `stopping` is set before everything has started."""
    starting = asyncio.create_task(asyncio.to_thread(system.start), name="start")
    told = asyncio.create_task(stopping.wait(), name="stopping")
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not starting.done():
        system.abandon()
    await starting


async def _stop(system: System, console: Console) -> None:
    if not system.holds_folder:
        console.print("Nothing was started.")
        return
    console.print("\nDraining …")
    late = await asyncio.to_thread(system.stop)
    console.print(f"Stopped; these did not drain in time: {', '.join(late)}" if late else "Stopped.")


async def _supervise(system: System, console: Console, stopping: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_print_status(system, console), name="status-line"),
            group.create_task(_restart_ended(system, console), name="restarts"),
        ]
        await stopping.wait()
        for task in tasks:
            task.cancel()


async def wait_until_serving(system: System, stopping: asyncio.Event | None = None) -> bool:
    """Wait until every gateway reports SERVING; False after a stop signal or a time-out. Raises ProcessFailed."""
    import grpc
    from grpc_health.v1 import health_pb2_grpc

    end = time.monotonic() + _ANSWER_S
    for address in system.gateways:
        async with grpc.aio.insecure_channel(address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            while not await _serves(check):
                if time.monotonic() > end or (stopping and stopping.is_set()):
                    return False
                if dead := system.dead():
                    child = system.processes[dead[0]]
                    raise ProcessFailed(dead[0], child.exit_code, child.tail())
                await asyncio.sleep(0.05)
    return True


async def _serves(check: Any) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2

    with contextlib.suppress(grpc.aio.AioRpcError):
        answer = await check(health_pb2.HealthCheckRequest(), timeout=0.5, wait_for_ready=True)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return False


def _print_hints(console: Console, system: System, seconds: float) -> None:
    listen = system.gateways[0]
    folder = os.path.relpath(pathlib.Path(sys.executable).parent)
    console.print(f"Ready after {seconds:.1f} s. The gateway: [bold]{listen}[/bold] (gRPC, no TLS)")
    console.print("Try, in another terminal:")
    body = '{"recipient": "+233201234567", "body": "Hello"}'
    call = "sms.gateway.v1.SmsGatewayService/SendSms"
    console.print(f"  {folder}/grpcurl -plaintext -d '{body}' {listen} {call}", soft_wrap=True, markup=False)
    console.print(f"  {folder}/smsctl send +233201234567 'Hello'", soft_wrap=True, markup=False)
    console.print(f"Logs: {os.path.relpath(system.logs)}. Ctrl-C drains and stops.")


def line_of(snapshot: FleetSnapshot) -> str:
    """Format a snapshot as one line."""
    lanes = "  ".join(
        f"{lane.provider} {lane.rate or 0:.0f}/s"
        + ("" if lane.breaker == "closed" else f" ({lane.breaker})")
        + (" (paused)" if lane.paused else "")
        for lane in snapshot.lanes
    )
    rate = f"{snapshot.rate:.0f} of {snapshot.limit}/s"
    return f"{lanes} │ {rate} │ {snapshot.backlog} waiting, {snapshot.scheduled} for later"


async def _print_status(system: System, console: Console) -> None:
    """Print rates and backlog: every second in place on a terminal, less often as new lines otherwise."""
    live = console.is_terminal
    while True:
        with contextlib.suppress(Unavailable):
            settings = read_settings(_settings_only(system))
            providers = read_providers(settings.servers.providers_file, system.environment)
            async with watching(settings, providers) as watch:
                while True:
                    text = printable(line_of(await watch.snapshot()))
                    if live:
                        console.file.write(f"\r\x1b[2K{text[: console.width - 1]}")
                    else:
                        console.file.write(f"{text}\n")
                    console.file.flush()
                    await asyncio.sleep(_LINE_EVERY_S if live else _QUIET_LINE_EVERY_S)
        await asyncio.sleep(_LINE_EVERY_S)


def _settings_only(system: System) -> dict[str, str]:
    return {key: value for key, value in system.environment.items() if key.startswith("SMSGW_")}


async def _restart_ended(system: System, console: Console) -> None:
    """Restart processes that ended by themselves; raises ProcessFailed for one that keeps ending."""
    ends: dict[str, list[float]] = {}
    while True:
        await asyncio.sleep(0.5)
        for name in system.dead():
            child = system.processes[name]
            recent = [at for at in ends.get(name, []) if at > time.monotonic() - 60]
            ends[name] = [*recent, time.monotonic()]
            if len(recent) >= _RESTARTS_IN_A_MINUTE:
                raise ProcessFailed(name, child.exit_code, child.tail())
            console.print(f"\n{name} ended with status {child.exit_code}: restarting it")
            system.restart(name)
