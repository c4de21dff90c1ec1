"""`make conformance`: runs every example client that this machine can build against the whole system, one by one.

`make conformance-build` only builds them, which takes long the first time.
"""

import argparse
import asyncio
import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from ops.embedded.nats import NatsServer
from ops.system import Plan, System
from ops.up import wait_until_serving
from tools.conformance.clients import CLIENTS, EXAMPLES, Client, ClientFailed, build, missing_tool, run
from tools.conformance.compare import differences, facts
from tools.conformance.outage import outage

_FAST_FAILING, _BUSY = "gateway-1", "gateway-2"
_OWN_SETTINGS = {
    _FAST_FAILING: {"SMSGW_PUBLISH_TIMEOUT_S": "2", "SMSGW_ACCEPT_BUDGET_S": "2"},  # reports a stream outage soon
    _BUSY: {"SMSGW_MAX_BACKLOG": "1"},
}


@attrs.frozen
class Finding:
    """The result of one client: "same", "different", "failed", "built" or "skipped"; `details` are sentences."""

    client: str
    result: str
    details: Sequence[str] = ()
    build_s: float = 0.0
    run_s: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether this fails the run."""
        return self.result in {"different", "failed"}


def compare_output(printed: str, expected: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Compare a client's output with the expected document; returns (differences, its facts). Raises ClientFailed."""
    try:
        document = json.loads(printed)
    except ValueError as exc:
        raise ClientFailed(f"its output is not a JSON document ({exc}): {printed[:200]!r}") from exc
    if not isinstance(document, dict):
        raise ClientFailed(f"its output is not a JSON object: {printed[:200]!r}")
    seen = facts(document)
    return differences(expected, seen), seen


def prepare(client: Client) -> Finding:
    """Build a client, unless its tool chain is missing or nothing has changed."""
    if reason := missing_tool(client):
        return Finding(client.name, "skipped", [reason])
    began = time.monotonic()
    try:
        build(client)
    except ClientFailed as exc:
        return Finding(client.name, "failed", [str(exc)], time.monotonic() - began)
    return Finding(client.name, "built", [], time.monotonic() - began)


def run_clients(
    clients: Sequence[Client],
    addresses: Sequence[str],
    expected: Mapping[str, Any],
    away: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Finding]:
    """Build and run each client, and compare its output; what the first good client saw is expected of all others.

    Each client runs inside a context from `away`.
    """
    for client in clients:
        finding = prepare(client)
        if finding.result != "built":
            yield finding
            continue
        began = time.monotonic()
        try:
            with away():
                printed = run(client, *addresses)
            found, seen = compare_output(printed, expected)
        except ClientFailed as exc:
            yield Finding(client.name, "failed", [str(exc)], finding.build_s, time.monotonic() - began)
            continue
        if not found:
            expected = seen
        result = "different" if found else "same"
        yield Finding(client.name, result, found, finding.build_s, time.monotonic() - began)


def main() -> int:
    """Build the chosen clients, and run them unless --build is given; returns the exit code, 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__)
    names = [client.name for client in CLIENTS]
    parser.add_argument("--only", action="append", choices=names, help="use only this client; repeatable")
    parser.add_argument("--build", action="store_true", help="only build the clients")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # also ends the processes of a build
    console = Console(highlight=False)
    wanted = [client for client in CLIENTS if client.name in (arguments.only or names)]
    findings = []
    for finding in map(prepare, wanted) if arguments.build else _run_all(wanted, console):
        console.print(f"{finding.client}: {finding.result}", style="red" if finding.bad else "", markup=False)
        findings.append(finding)
    left_out = [client.name for client in CLIENTS if client not in wanted]
    findings += [Finding(name, "skipped", ["left out by --only"]) for name in left_out]
    _print(findings, console)
    nothing = not findings or all(one.result == "skipped" for one in findings)
    return 1 if any(one.bad for one in findings) or (nothing and not arguments.build) else 0


def _run_all(clients: Sequence[Client], console: Console) -> Iterator[Finding]:
    """Start the whole system and run every client against it; yields nothing when the system does not answer."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sms-gateway-conformance-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    plan = Plan(
        folder,
        providers=("p1", "p2"),
        gateways=2,
        durable=False,
        own_settings=lambda name, _environment: _OWN_SETTINGS.get(name, {}),
    )
    system = System(plan)
    try:
        system.start()
        if not asyncio.run(wait_until_serving(system)):
            console.print("The gateways did not answer in time.")
            return
        if not isinstance(system.nats, NatsServer):
            console.print("SMSGW_NATS_URL is set: unset it, because this run stops and starts the stream.")
            return
        away = partial(outage, system.nats, system.logs / f"{_FAST_FAILING}.log")
        expected = json.loads((EXAMPLES / "expected.json").read_text())
        yield from run_clients(clients, system.gateways, expected, away)
    finally:
        system.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _print(findings: Sequence[Finding], console: Console) -> None:
    table = Table(title="What the clients saw")
    for column in ("client", "saw", "build s", "run s", "why"):
        table.add_column(column, justify="right" if column.endswith(" s") else "left")
    for one in findings:
        table.add_row(
            one.client,
            one.result,
            f"{one.build_s:.1f}" if one.build_s else "",
            f"{one.run_s:.1f}" if one.run_s else "",
            one.details[0] if one.result == "skipped" else "",
        )
    console.print(table)
    for one in findings:
        if one.bad:
            for sentence in one.details:
                console.print(f"{one.client}: {sentence}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
