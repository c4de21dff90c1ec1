"""`smsctl up`: the whole system in the foreground, a live line, and a clean end on Ctrl-C."""

import asyncio
import contextlib
import os
import pathlib
import signal
import socket
import sys
import time
from typing import Any

from rich.console import Console

from messaging.errors import SetupError, Unavailable
from messaging.runtime.config import read_settings
from messaging.runtime.providers_file import read_providers
from ops.embedded import cluster
from ops.fleet import FleetPicture, watching
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
            cure = "is another `smsctl up` running? Else choose another address"
            raise SetupError(f"SMSGW_LISTEN: {listen} cannot be used ({exc}): {cure}") from exc
    servers = nats_servers_for(settings.servers.replicas, named="SMSGW_NATS_URL" in os.environ)
    return Plan(pathlib.Path(settings.process.data_folder), listen=listen, nats_servers=servers)


def nats_servers_for(replicas: int, *, named: bool) -> int:
    """Say how many servers of our own can keep so many copies: one, or a cluster; raises SetupError.

    Where servers are `named`, none of our own is started.
    """
    if named or replicas == 1:
        return 1
    if replicas > cluster.SIZE:
        cure = f"set it to {cluster.SIZE} or less, or SMSGW_NATS_URL to a cluster of your own"
        raise SetupError(
            f"SMSGW_REPLICAS: {replicas} copies need as many servers, of which {cluster.SIZE} run here: {cure}"
        )
    return cluster.SIZE


async def run_up(plan: Plan) -> int:
    """Run the system until SIGINT or SIGTERM; gives the exit code."""
    console = Console(highlight=False)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    began = time.monotonic()
    system = System(plan)
    console.print(f"Starting in {system.folder} …")
    code = 0
    try:
        await asyncio.to_thread(system.start)
        if await wait_for_answer(system, stopping):
            _welcome(console, system, time.monotonic() - began)
            await _attend(system, console, stopping)
        elif not stopping.is_set():
            console.print("The front door does not answer.", style="red")
            code = 1
    except* SetupError as failed:
        for exc in failed.exceptions:
            console.print(str(exc), style="red", markup=False, soft_wrap=True)
        code = 1
    finally:
        console.print("\nDraining …")
        late = await asyncio.to_thread(system.stop)
        console.print(f"Stopped; these did not drain in time: {', '.join(late)}" if late else "Stopped.")
    return code


async def _attend(system: System, console: Console, stopping: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_live_line(system, console), name="live-line"),
            group.create_task(_revive(system, console), name="revive"),
        ]
        await stopping.wait()
        for task in tasks:
            task.cancel()


async def wait_for_answer(system: System, stopping: asyncio.Event | None = None) -> bool:
    """Wait until every gateway says SERVING; False when told to stop or too late. Raises ProcessFailed."""
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


def _welcome(console: Console, system: System, seconds: float) -> None:
    listen = system.gateways[0]
    folder = os.path.relpath(pathlib.Path(sys.executable).parent)
    console.print(f"Ready after {seconds:.1f} s. The front door: [bold]{listen}[/bold] (gRPC, no TLS)")
    console.print("Try, in another terminal:")
    body = '{"recipient": "+233201234567", "body": "Hello"}'
    call = "sms.gateway.v1.SmsGatewayService/SendSms"
    console.print(f"  {folder}/grpcurl -plaintext -d '{body}' {listen} {call}", soft_wrap=True, markup=False)
    console.print(f"  {folder}/smsctl send +233201234567 'Hello'", soft_wrap=True, markup=False)
    console.print(f"Logs: {os.path.relpath(system.logs)}. Ctrl-C drains and stops.")


def line_of(picture: FleetPicture) -> str:
    """Write a picture as one line."""
    lanes = "  ".join(
        f"{lane.provider} {lane.rate or 0:.0f}/s"
        + ("" if lane.breaker == "closed" else f" ({lane.breaker})")
        + (" (paused)" if lane.paused else "")
        for lane in picture.lanes
    )
    return (
        f"{lanes} │ {picture.rate:.0f} of {picture.limit}/s │ {picture.backlog} waiting, {picture.scheduled} for later"
    )


async def _live_line(system: System, console: Console) -> None:
    """Print rates and backlog: in place on a terminal, now and then into a file."""
    live = console.is_terminal
    while True:
        with contextlib.suppress(Unavailable):
            settings = read_settings(_settings_only(system))
            providers = read_providers(settings.servers.providers_file, system.environment)
            async with watching(settings, providers) as watch:
                while True:
                    text = line_of(await watch.picture())
                    if live:
                        sys.stdout.write(f"\r\x1b[2K{text[: console.width - 1]}")
                        sys.stdout.flush()
                    else:
                        print(text, flush=True)
                    await asyncio.sleep(_LINE_EVERY_S if live else _QUIET_LINE_EVERY_S)
        await asyncio.sleep(_LINE_EVERY_S)


def _settings_only(system: System) -> dict[str, str]:
    return {key: value for key, value in system.environment.items() if key.startswith("SMSGW_")}


async def _revive(system: System, console: Console) -> None:
    """Start again what ended by itself; give up on what keeps ending."""
    falls: dict[str, list[float]] = {}
    while True:
        await asyncio.sleep(0.5)
        for name in system.dead():
            child = system.processes[name]
            recent = [at for at in falls.get(name, []) if at > time.monotonic() - 60]
            falls[name] = [*recent, time.monotonic()]
            if len(recent) >= _RESTARTS_IN_A_MINUTE:
                raise ProcessFailed(name, child.exit_code, child.tail())
            console.print(f"\n{name} ended with status {child.exit_code}: starting it again")
            system.restart(name)
