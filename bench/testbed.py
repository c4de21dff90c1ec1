"""A system for one benchmark in a new folder, and functions to control and observe it."""

import asyncio
import contextlib
import json
import pathlib
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs

from bench.cpu import Stopwatch
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection
from ops.embedded import NatsServer, Postgres
from ops.system import Plan, System
from ops.up import wait_until_serving

OURS = ("gateway", "dispatcher", "coordinator", "projector")
_UNBOUNDED = {"SMSGW_MAX_BACKLOG": "100000000", "SMSGW_MAX_BACKLOG_PER_PROVIDER": "100000000"}
_POLL_S = 0.05
_STOP_S = 15.0
_PATIENCE_S = 900.0


class TestbedFailed(Exception):
    """The system did not do what the benchmark needs."""


@attrs.frozen
class Limits:
    """Rates (sends a second) for each provider and for all, instead of the default ones."""

    provider: int
    fleet: int


@attrs.define
class Testbed:
    """A running system, and the benchmark's connection to its stream."""

    system: System
    connection: Connection

    @property
    def providers(self) -> list[str]:
        """The names of the simulated providers."""
        return list(self.system.simulators)

    @property
    def url(self) -> str:
        """The URL of nats-server."""
        return self.system.environment["SMSGW_NATS_URL"]

    def pids(self) -> dict[str, int]:
        """Return the process ids of the system by name, including the servers."""
        found = {name: child.pid for name, child in self.system.processes.items()}
        servers = {"nats-server": self.system.nats, "postgres": self.system.postgres}
        return found | {
            name: one.pid for name, one in servers.items() if isinstance(one, NatsServer | Postgres) and one.pid
        }

    def stopwatch(self) -> Stopwatch:
        """Start to count the CPU seconds of every process."""
        return Stopwatch(self.pids())

    async def purge(self) -> None:
        """Delete all accepted and queued messages, so that every arm starts from the same state."""
        for stream in (topo.ACCEPT, topo.SEND):
            await self.connection.api(f"STREAM.PURGE.{stream}", timeout_s=30)

    async def pending(self, stream: str) -> int:
        """Count the messages of a stream that its consumers have not finished."""
        page = await self.connection.api(f"CONSUMER.LIST.{stream}", {"offset": 0})
        return sum(one.get("num_pending", 0) + one.get("num_ack_pending", 0) for one in page.get("consumers") or ())

    async def until_done(self, *streams: str) -> None:
        """Wait until the consumers of these streams have finished everything."""
        end = time.monotonic() + _PATIENCE_S
        for stream in streams:
            while await self.pending(stream):
                if time.monotonic() > end:
                    raise TestbedFailed(f"{stream} is not finished")
                await asyncio.sleep(_POLL_S)

    async def taken(self) -> int:
        """Count the messages that the simulated providers have taken."""
        stats = await asyncio.gather(*(self._get(name, "/_stats") for name in self.providers))
        return sum(json.loads(one)["taken"] for one in stats)

    async def until_taken(self, count: int) -> None:
        """Wait until the simulated providers have taken `count` messages in total."""
        end = time.monotonic() + _PATIENCE_S
        while (taken := await self.taken()) < count:
            if time.monotonic() > end or self.system.dead():
                raise TestbedFailed(f"only {taken} of {count} reached a provider; ended: {self.system.dead()}")
            await asyncio.sleep(_POLL_S)

    async def arrivals(self) -> dict[str, list[dict[str, Any]]]:
        """Return the requests that each provider has received."""
        found = {}
        for name in self.providers:
            lines = (await self._get(name, "/_requests")).splitlines()
            found[name] = [json.loads(line) for line in lines]
        return found

    async def clear_arrivals(self) -> None:
        """Clear the logs of all providers."""
        for name in self.providers:
            await self._get(name, "/_reset", method="POST")

    async def signal(self, kind: str, number: signal.Signals) -> None:
        """Send a signal to every process of a kind."""
        for name in self.system.processes:
            if name.startswith(kind):
                self.system.signal(name, number)

    async def end(self, name: str) -> None:
        """Drain and end one process."""
        self.system.signal(name, signal.SIGTERM)
        await asyncio.to_thread(self.system.processes[name].wait, _STOP_S)
        del self.system.processes[name]

    async def _get(self, provider: str, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(self.system.simulators[provider] + path, method=method)  # noqa: S310 - ours

        def read() -> bytes:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own simulator
                return bytes(answer.read())

        return await asyncio.to_thread(read)


@contextlib.asynccontextmanager
async def start_testbed(
    *,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    data: pathlib.Path | None = None,
    **plan: Any,
) -> AsyncIterator[Testbed]:
    """Run a system inside the context, in a new folder or in `data`, which is kept; `plan` is that of ops.system."""
    folder = data or new_folder()
    settings = {**_UNBOUNDED, **(environment or {})}
    if limits is not None:
        settings["SMSGW_FLEET_RATE_PER_S"] = str(limits.fleet)
        plan["rate_per_s"] = limits.provider
    system = System(Plan(folder, environment=settings, durable=False, **plan))
    try:
        await asyncio.to_thread(system.start)
        if not await wait_until_serving(system):
            raise TestbedFailed("the gateway does not answer")
        async with open_connection(system.environment["SMSGW_NATS_URL"], "bench", timeout_s=30) as connection:
            yield Testbed(system, connection)
    finally:
        await asyncio.to_thread(system.stop)
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)


def new_folder() -> pathlib.Path:
    """Make a folder for the data of a system."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sms-gateway-bench-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    return folder
