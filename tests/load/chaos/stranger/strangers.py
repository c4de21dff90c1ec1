"""Starts the strangers, turns their moods, sets the wire to them, and reads what they wrote down."""

import asyncio
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ops.embedded.child import HERE, LOCALHOST, START_S, Child, Place, free_ports
from tests.load.chaos.net.wire import THEIRS, lay
from tests.load.chaos.plan import Fault
from tests.load.chaos.records import Arrival
from tests.load.chaos.stranger.moods import MISSING_AFTER_S, table

_ROOT = pathlib.Path(__file__).parents[4]
_PATHS = ":".join(map(str, (_ROOT, _ROOT / "gen")))
_SECOND_NS = 1_000_000_000


class Strangers:
    """Providers by name, each with its port; with `wired` in a namespace of their own behind a wire.

    The namespace of the caller's thread is our side of the wire.
    """

    def __init__(self, folder: pathlib.Path, names: Sequence[str], *, wired: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._folder = folder
        self._host = THEIRS if wired else LOCALHOST
        self._wire: subprocess.Popen[bytes] | None = None
        self._offsets: dict[str, int] = {}
        self._child = self._start(self._lay() if wired else HERE)

    def _lay(self) -> Place:
        namespace, near, far = lay()
        command = [sys.executable, "-m", "tests.load.chaos.net.wire", str(near), str(far), str(self._folder)]
        with (self._folder / "wire.log").open("wb") as log:
            self._wire = subprocess.Popen(
                command, pass_fds=(near, far), stderr=log, start_new_session=True, cwd="/", env=_environment()
            )
        os.close(near)
        os.close(far)
        return Place(self._host, namespace.enter)

    def _start(self, place: Place) -> Child:
        return Child(
            [
                *(sys.executable, "-m", "tests.load.chaos.stranger", self._folder, self._host),
                *(f"{name}:{port}" for name, port in self.ports.items()),
            ],
            log=self._folder / "strangers.log",
            lock=self._folder / "strangers.lock",
            death_signal=signal.SIGKILL,
            environment=_environment(),
            place=place,
        )

    def tables(self, rate_per_s: int, timeout_s: int) -> Mapping[str, str]:
        """Return the entries of the providers file, by name."""
        return {
            name: table(name, f"http://{self._host}:{port}", rate_per_s, timeout_s) for name, port in self.ports.items()
        }

    def wait(self) -> None:
        """Wait until all can be told something; raises TimeoutError."""
        sockets = ["strangers.sock", *(["wire.sock"] if self._wire else [])]
        end = time.monotonic() + START_S
        while not all((self._folder / one).exists() for one in sockets):
            if time.monotonic() > end or not self._child.alive:
                raise TimeoutError(f"the strangers did not start: {self._child.tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the processes."""
        self._child.kill()
        if self._wire is not None:
            self._wire.kill()
            self._wire.wait()

    async def inject(self, fault: Fault) -> None:
        """Inject a fault of the kind `mood` or `wire`."""
        if fault.kind == "mood":
            self._tell("strangers.sock", {"name": fault.target, "mood": fault.detail})
            await asyncio.sleep(fault.lasts_s)
            self._tell("strangers.sock", {"name": fault.target, "mood": "well"})
            return
        loss, delay_s = map(float, fault.detail.split())
        self._tell("wire.sock", {"loss": loss, "delay_s": delay_s})
        await asyncio.sleep(fault.lasts_s)
        self._tell("wire.sock", {"loss": 0.0, "delay_s": 0.0})

    def _tell(self, name: str, document: Mapping[str, object]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
            teller.sendto(json.dumps(document).encode(), str(self._folder / name))

    def read(self) -> list[Arrival]:
        """Return what was written down since the last call."""
        return [arrival_of(name, line) for name in self.ports for line in self._new_lines(f"{name}.jsonl")]

    def departures(self) -> Mapping[str, Sequence[int]]:
        """Return when each request left our side of the wire, by stranger; none without a wire."""
        if self._wire is None:
            return {}
        names = {port: name for name, port in self.ports.items()}
        found: dict[str, list[int]] = {name: [] for name in self.ports}
        for line in self._new_lines("departures.jsonl"):
            found[names[line["port"]]].append(line["at_ns"])
        return found

    def _new_lines(self, name: str) -> list[dict[str, Any]]:
        with (self._folder / name).open("rb") as record:
            record.seek(self._offsets.get(name, 0))
            data = record.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[name] = self._offsets.get(name, 0) + len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": _PATHS}


def arrival_of(name: str, line: Mapping[str, Any]) -> Arrival:
    """Read one line of a stranger's record."""
    taken_ns = line["taken_ns"]
    late_ns = taken_ns - line["at_ns"] if taken_ns else 0
    broken = late_ns > MISSING_AFTER_S * _SECOND_NS
    return Arrival(name, line["at_ns"], str(line["tag"]), bool(taken_ns), denied=broken)
