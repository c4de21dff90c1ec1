"""`make conformance`: the whole system, and every example client that this machine can build, one after the other."""

import argparse
import asyncio
import json
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from ops.system import Plan, System
from ops.up import wait_for_answer
from tools.conformance.clients import CLIENTS, EXAMPLES, Client, ClientFailed, build, lacking, run
from tools.conformance.compare import differences, facts

_BUSY = "gateway-2"


@attrs.frozen
class Finding:
    """How one client fared: `word` is "same", "different", "failed" or "skipped"; `told` holds the sentences."""

    client: str
    word: str
    told: Sequence[str] = ()
    build_s: float = 0.0
    run_s: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether the run has to be red."""
        return self.word in {"different", "failed"}


def judge(printed: str, expected: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Compare what a client printed with what is expected: (differences, its facts). Raises ClientFailed."""
    try:
        document = json.loads(printed)
    except ValueError as exc:
        raise ClientFailed(f"what it printed is no JSON document ({exc}): {printed[:200]!r}") from exc
    if not isinstance(document, dict):
        raise ClientFailed(f"what it printed is no JSON object: {printed[:200]!r}")
    seen = facts(document)
    return differences(expected, seen), seen


def examine(clients: Sequence[Client], addresses: Sequence[str], expected: Mapping[str, Any]) -> Iterator[Finding]:
    """Build, run and judge each client; what the first good one saw is expected of those after it, word for word."""
    for client in clients:
        if reason := lacking(client):
            yield Finding(client.name, "skipped", [reason])
            continue
        began = time.monotonic()
        try:
            build(client)
            built = time.monotonic()
            found, seen = judge(run(client, *addresses), expected)
        except ClientFailed as exc:
            yield Finding(client.name, "failed", [str(exc)], time.monotonic() - began)
            continue
        if not found:
            expected = seen
        word = "different" if found else "same"
        yield Finding(client.name, word, found, built - began, time.monotonic() - built)


def main() -> int:
    """Run the clients that were asked for, by default all; 1 when one failed or saw something else."""
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__)
    names = [client.name for client in CLIENTS]
    parser.add_argument("--only", action="append", choices=names, help="leave the others out")
    wanted = parser.parse_args().only or names
    console = Console(highlight=False)
    expected = json.loads((EXAMPLES / "walk.json").read_text())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sms-gateway-conformance-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    tight = {"SMSGW_MAX_BACKLOG": "1"}
    plan = Plan(
        folder,
        providers=("p1", "p2"),
        gateways=2,
        durable=False,
        own_settings=lambda name, _environment: tight if name == _BUSY else {},
    )
    system = System(plan)
    findings: list[Finding] = []
    try:
        system.start()
        if not asyncio.run(wait_for_answer(system)):
            console.print("The gateways did not answer in time.")
            return 1
        for finding in examine([one for one in CLIENTS if one.name in wanted], system.gateways, expected):
            console.print(f"{finding.client}: {finding.word}", style="red" if finding.bad else "", markup=False)
            findings.append(finding)
    finally:
        system.stop()
        shutil.rmtree(folder, ignore_errors=True)
    findings += [Finding(name, "skipped", ["left out by --only"]) for name in names if name not in wanted]
    _print(findings, console)
    return 1 if any(one.bad for one in findings) or all(one.word == "skipped" for one in findings) else 0


def _print(findings: Sequence[Finding], console: Console) -> None:
    table = Table(title="What the clients saw")
    for column in ("client", "saw", "build s", "run s", "why"):
        table.add_column(column, justify="right" if column.endswith(" s") else "left")
    for one in findings:
        table.add_row(
            one.client,
            one.word,
            f"{one.build_s:.1f}" if one.build_s else "",
            f"{one.run_s:.1f}" if one.run_s else "",
            one.told[0] if one.word == "skipped" else "",
        )
    console.print(table)
    for one in findings:
        if one.bad:
            for sentence in one.told:
                console.print(f"{one.client}: {sentence}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
