"""`make demo`: start the whole system, send in bulk, and check that the promises were kept."""

import asyncio
import json
import pathlib
import shutil
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from messaging.printable import printable
from ops.percentile import percentile
from ops.simulator.call_log import highest_window
from ops.system import System
from ops.up import plan_from_environment, wait_until_serving

_CHUNK = 500
_PATIENCE_S = 120.0
_POLL_S = 0.5
_PROVIDER_LIMIT, _FLEET_LIMIT = 50, 200


@attrs.frozen
class Arrival:
    """One request that arrived at a provider's socket (Unix nanoseconds)."""

    provider: str
    at_ns: int
    reference: str
    taken: bool


@attrs.frozen
class Findings:
    """What the demo measured: counts, the fullest windows, latencies (seconds), and every broken promise."""

    accepted: int
    sent: Mapping[str, int]
    windows: Mapping[str, int]
    fleet_window: int
    latency_p50_s: float
    latency_p99_s: float
    rate_per_s: float
    broken: Sequence[str]


def compare(accepted: Mapping[str, float], states: Mapping[str, str], arrivals: Sequence[Arrival]) -> Findings:
    """Compare the accepted messages (id: Unix seconds), their states, and the requests at the sockets. Pure."""
    broken: list[str] = []
    mine = [one for one in arrivals if one.reference in accepted]
    taken = [one for one in mine if one.taken]
    missing = set(accepted) - {one.reference for one in taken}
    if missing:
        broken.append(f"{len(missing)} accepted messages did not reach a provider")
    if doubled := len(taken) - len({one.reference for one in taken}):
        broken.append(f"{doubled} messages reached a provider twice")
    if unsent := [state for state in states.values() if state != "SENT"]:
        broken.append(f"{len(unsent)} messages are not SENT")
    providers = sorted({one.provider for one in mine})
    windows = {name: highest_window([one.at_ns for one in mine if one.provider == name]) for name in providers}
    broken += [f"{name} got {n} requests in one second" for name, n in windows.items() if n > _PROVIDER_LIMIT]
    fleet_window = highest_window([one.at_ns for one in mine])
    if fleet_window > _FLEET_LIMIT:
        broken.append(f"all providers together got {fleet_window} requests in one second")
    waits = [one.at_ns / 1e9 - accepted[one.reference] for one in taken] or [0.0]
    span = (max(one.at_ns for one in mine) - min(one.at_ns for one in mine)) / 1e9 if len(mine) > 1 else 0.0
    return Findings(
        len(accepted),
        {name: sum(1 for one in taken if one.provider == name) for name in providers},
        windows,
        fleet_window,
        percentile(waits, 50),
        percentile(waits, 99),
        len(mine) / span if span else 0.0,
        broken,
    )


async def run_demo(messages: int = 2000, *, keep: bool = False) -> int:
    """Run the demo in a new folder; returns the exit code: 0 when every promise was kept, else 1."""
    console = Console(highlight=False)
    folder = _new_folder()
    system = System(attrs.evolve(plan_from_environment(), folder=folder))
    try:
        console.print("Starting the system …")
        await asyncio.to_thread(system.start)
        if not await wait_until_serving(system):
            console.print("The gateway did not answer in time.")
            return 1
        findings = await _drive(system, messages, console)
        _print(findings, console)
        return 1 if findings.broken else 0
    finally:
        await asyncio.to_thread(system.stop)
        if keep:
            console.print(f"Data and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _new_folder() -> pathlib.Path:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sms-gateway-demo-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    return folder


async def _drive(system: System, count: int, console: Console) -> Findings:
    bar = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        console=console,
    )
    async with grpc.aio.insecure_channel(system.gateways[0]) as channel:
        stub = rpc.SmsGatewayServiceStub(channel)
        with bar:
            sending = bar.add_task("accepted", total=count, rates="")
            accepted: dict[str, float] = {}
            async for response in stub.BatchSend(_chunks(count)):
                for result in response.results:
                    if result.HasField("accepted"):
                        accepted[result.accepted.message_id] = result.accepted.accept_time.ToNanoseconds() / 1e9
                    else:
                        console.print(f"refused: {printable(result.error.message)}", markup=False)
                bar.update(sending, completed=len(accepted))
            final = bar.add_task("final", total=len(accepted), rates="")
            await _until_final(system, accepted, bar, final)
        states = await _states(stub, list(accepted))
    arrivals = await asyncio.to_thread(_arrivals, system)
    return compare(accepted, states, arrivals)


def _chunks(count: int) -> Iterator[api.BatchSendRequest]:
    run = uuid.uuid4().hex[:12]
    for first in range(0, count, _CHUNK):
        yield api.BatchSendRequest(
            sequence=first // _CHUNK,
            messages=[
                api.SendSmsRequest(
                    recipient=f"+23320{n % 10_000_000:07d}",
                    body=f"Demo message {n}",
                    priority=pb.PRIORITY_NORMAL,
                    request_id=f"demo-{run}-{n}",
                )
                for n in range(first, min(first + _CHUNK, count))
            ],
        )


async def _until_final(system: System, accepted: Mapping[str, float], bar: Progress, task: Any) -> None:
    """Watch the providers until they have taken every message, or time is up."""
    end = time.monotonic() + _PATIENCE_S + len(accepted) / _FLEET_LIMIT
    before: dict[str, int] = {}
    at = time.monotonic()
    while time.monotonic() < end:
        stats = await asyncio.to_thread(lambda: {name: _get(url, "/_stats") for name, url in system.simulators.items()})
        now = time.monotonic()
        counts = {name: int(one["taken"]) for name, one in stats.items()}
        rates = "  ".join(f"{name} {(n - before.get(name, 0)) / (now - at):.0f}/s" for name, n in counts.items())
        bar.update(task, completed=sum(counts.values()), rates=rates)
        if sum(counts.values()) >= len(accepted):
            return
        before, at = counts, now
        await asyncio.sleep(_POLL_S)


async def _states(stub: Any, ids: Sequence[str]) -> dict[str, str]:
    """Ask for the state of every message until each is settled: the last outcomes may not be recorded yet."""
    found: dict[str, str] = {}
    end = time.monotonic() + 15.0
    waiting = list(ids)
    while waiting and time.monotonic() < end:
        slots = asyncio.Semaphore(32)

        async def ask(message_id: str, slots: asyncio.Semaphore = slots) -> tuple[str, pb.MessageState.ValueType]:
            async with slots:
                answer = await stub.GetStatus(api.GetStatusRequest(message_id=message_id))
                return message_id, answer.status.state

        answers = await asyncio.gather(*map(ask, waiting))
        found.update((one, pb.MessageState.Name(state).removeprefix("MESSAGE_STATE_")) for one, state in answers)
        waiting = [one for one, state in answers if state in {pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_ACCEPTED}]
        await asyncio.sleep(0.2 if waiting else 0)
    return found


def _arrivals(system: System) -> list[Arrival]:
    found = []
    for name, url in system.simulators.items():
        for line in _read(url, "/_requests").splitlines():
            one = json.loads(line)
            found.append(Arrival(name, one["at_ns"], one["reference"], one["taken"]))
    return found


def _read(url: str, path: str) -> bytes:
    with urllib.request.urlopen(url + path, timeout=10) as answer:  # noqa: S310 - our own simulator
        data: bytes = answer.read()
    return data


def _get(url: str, path: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_read(url, path))
    return document


def _print(findings: Findings, console: Console) -> None:
    table = Table(title=f"{findings.accepted} accepted, {sum(findings.sent.values())} sent")
    for column in ("provider", "sent", "most in any second", "limit"):
        table.add_column(column, justify="left" if column == "provider" else "right")
    for name, sent in findings.sent.items():
        table.add_row(name, str(sent), str(findings.windows[name]), str(_PROVIDER_LIMIT))
    table.add_row("together", str(sum(findings.sent.values())), str(findings.fleet_window), str(_FLEET_LIMIT))
    console.print(table)
    console.print(
        f"{findings.rate_per_s:.1f} sends a second; from acceptance to the provider's socket "
        f"p50 {findings.latency_p50_s:.3f} s, p99 {findings.latency_p99_s:.3f} s (messages wait because of the rate)"
    )
    for promise in findings.broken:
        console.print(f"[red]Broken: {promise}[/red]")
    if not findings.broken:
        console.print("Every promise was kept.")
