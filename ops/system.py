"""The whole system on one machine: embedded servers, simulated providers, and every process of ours as its own.

Used by `smsctl up`, the demo, the end-to-end tests and the chaos runs. All methods block.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import attrs

from messaging.errors import SetupError
from ops.embedded.child import LOCALHOST, Child, free_port
from ops.embedded.cluster import SIZE, NatsCluster
from ops.embedded.nats import NatsServer
from ops.embedded.postgres import Postgres

DRAIN_S = 10.0
"""What each process gets to drain (SMSGW_DRAIN_S); with one second for the servers it stays below STOP_S."""

STOP_S = 13.0
_DOOR_S = 30.0
RATE_PER_S = 50
_SIMULATED_LATENCY_S = "0.05"


class ProcessFailed(SetupError):
    """One of the system's processes ended by itself; `tail` holds the end of its log."""

    reason = "PROCESS_FAILED"

    def __init__(self, name: str, code: int | None, tail: str) -> None:
        self.name = name
        self.code = code
        super().__init__(f"{name} ended with status {code}; its log ends with:\n{tail}")


@attrs.frozen
class Plan:
    """What to start. `environment` adds settings; existing servers are used when it names them.

    `providers` are simulated ones unless the environment names a providers file; `tables` adds lines to the tables of
    some of them. `nats_servers` is 1, or 3: a cluster, with three replicas of every stream. `own_settings` gives a
    process, by its name and what it would see, what only it is to see.
    """

    folder: pathlib.Path
    environment: Mapping[str, str] = attrs.Factory(dict)
    providers: Sequence[str] = ("p1", "p2", "p3", "p4", "p5")
    tables: Mapping[str, Sequence[str]] = attrs.Factory(dict)
    dispatchers_each: int = 1
    gateways: int = 1
    listen: str = ""
    durable: bool = True
    nats_servers: int = 1
    projectors: int = 1
    coordinators: int = 1
    simulator_latency_s: str = _SIMULATED_LATENCY_S
    rate_per_s: int = RATE_PER_S
    own_settings: Callable[[str, Mapping[str, str]], Mapping[str, str]] = lambda _name, _environment: {}


class System:
    """Starts everything in an order in which the front door answers first, and stops it in reverse."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder.resolve()
        self.logs = self.folder / "log"
        self.processes: dict[str, Child] = {}
        self.commands: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {}
        self.nats: NatsServer | NatsCluster | None = None
        self.postgres: Postgres | None = None
        self.gateways: list[str] = []
        self.simulators: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self._lock = threading.Lock()
        self._folder_claim: IO[str] | None = None

    def start(self) -> None:
        """Start all; returns when every process exists, not yet when each answers. Raises SetupError."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._claim()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        self.environment = {**inherited, **self.plan.environment, "PYTHONUNBUFFERED": "1"}
        self.environment.setdefault("SMSGW_DRAIN_S", f"{DRAIN_S:g}")
        with ThreadPoolExecutor(1) as pool:
            self._choose_database()
            database = pool.submit(self.postgres.start) if self.postgres else None
            self._start_nats()
            self._start_simulators()
            for index in range(self.plan.gateways):
                self._start_gateway(index)
            # Callers first: two cores would otherwise share the start of ten processes, and all would be late.
            self._wait_for_the_door()
            if database is not None:
                database.result()
        self.write_run_file()
        for index in range(self.plan.coordinators):
            self.spawn(f"coordinator-{index + 1}", "dispatcher", "coordinate")
        for name in self._provider_names():
            for index in range(self.plan.dispatchers_each):
                self.spawn(f"dispatcher-{name}-{index + 1}", "dispatcher", "work", "--provider", name)
        if self.plan.projectors:
            self._migrate()
            for index in range(self.plan.projectors):
                self.spawn(f"projector-{index + 1}", "dispatcher", "project")

    def _claim(self) -> None:
        """Keep a second system out of the folder, before it touches anything there; ends with this process."""
        claim = (self.folder / "up.lock").open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
            cure = "stop it, or set SMSGW_VAR to another folder and SMSGW_LISTEN to another address"
            raise SetupError(f"another system runs in {self.folder}: {cure}") from None
        self._folder_claim = claim

    def _start_nats(self) -> None:
        if "SMSGW_NATS_URL" not in self.environment:
            clustered = self.plan.nats_servers > 1
            folder = self.folder / "nats"
            _see_that_the_data_is_found(folder, clustered=clustered)
            self.nats = (NatsCluster if clustered else NatsServer)(folder)
            self.nats.start()
            if clustered:
                self.environment.setdefault("SMSGW_REPLICAS", str(self.plan.nats_servers))
            self.environment["SMSGW_NATS_URL"] = self.nats.url

    def _choose_database(self) -> None:
        if "SMSGW_DATABASE_URL" not in self.environment and self.plan.projectors:
            self.postgres = Postgres(self.folder / "postgres", free_port(), durable=self.plan.durable)
            self.environment["SMSGW_DATABASE_URL"] = self.postgres.url

    def _wait_for_the_door(self) -> None:
        """Wait until every gateway listens, or one has ended: whoever waits for answers finds out."""
        end = time.monotonic() + _DOOR_S
        for listen in self.gateways:
            host, _, port = listen.rpartition(":")
            while time.monotonic() < end and not self.dead():
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection((host.strip("[]") or LOCALHOST, int(port)), 1),
                ):
                    break
                time.sleep(0.02)

    def _migrate(self) -> None:
        from messaging.store.migrate import upgrade

        upgrade(self.environment["SMSGW_DATABASE_URL"])

    def _start_simulators(self) -> None:
        if "SMSGW_PROVIDERS_FILE" in self.environment:
            return
        ports = {name: free_port() for name in self.plan.providers}
        self.simulators = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        path = self.folder / "providers.toml"
        path.write_text(
            "# Made anew at every start; set SMSGW_PROVIDERS_FILE to use a file of your own.\n"
            + "".join(self._provider_table(name, url) for name, url in self.simulators.items())
        )
        self.environment["SMSGW_PROVIDERS_FILE"] = str(path)
        pairs = [part for name, port in ports.items() for part in ("--provider", f"{name}:{port}")]
        self.spawn("simulator", "ops.simulator", *pairs, "--latency", self.plan.simulator_latency_s)

    def _provider_table(self, name: str, url: str) -> str:
        lines = "\n".join(self.plan.tables.get(name, ()))
        head = f'\n[[provider]]\nname = "{name}"\nadapter = "simulated"\nurl = "{url}"\n'
        return f"{head}rate_per_s = {self.plan.rate_per_s}\n{lines}\n"

    def _provider_names(self) -> list[str]:
        if self.simulators:
            return list(self.simulators)
        from messaging.runtime.providers_file import read_providers

        return [one.name for one in read_providers(self.environment["SMSGW_PROVIDERS_FILE"], self.environment)]

    def _start_gateway(self, index: int) -> None:
        listen = self.plan.listen if index == 0 and self.plan.listen else f"127.0.0.1:{free_port()}"
        self.gateways.append(listen)
        self.spawn(f"gateway-{index + 1}", "gateway_grpc", SMSGW_LISTEN=listen)

    def spawn(self, name: str, module: str, *arguments: str, **settings: str) -> Child:
        """Start one process of ours under a name; its log is `log/<name>.log`."""
        self.commands[name] = ((module, *arguments), settings)
        return self.restart(name)

    def restart(self, name: str) -> Child:
        """Start a process again that has ended, as it was started before."""
        arguments, settings = self.commands[name]
        environment = {**self.environment, **settings}
        environment["SMSGW_POD"] = name
        environment.update(self.plan.own_settings(name, environment))
        child = Child(
            [sys.executable, "-m", *arguments],
            log=self.logs / f"{name}.log",
            lock=self.logs / f".{name}.lock",
            death_signal=signal.SIGTERM,
            environment=environment,
        )
        with self._lock:
            self.processes[name] = child
        return child

    def write_run_file(self) -> None:
        """Tell smsctl where everything is."""
        run: dict[str, str] = {
            key: self.environment[key]
            for key in ("SMSGW_NATS_URL", "SMSGW_REPLICAS", "SMSGW_DATABASE_URL", "SMSGW_PROVIDERS_FILE")
            if key in self.environment
        }
        run["SMSGW_LISTEN"] = self.gateways[0]
        path = self.folder / "run.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"environment": run, "simulators": self.simulators}))
        temporary.chmod(0o600)
        temporary.rename(path)

    def dead(self) -> list[str]:
        """Name the processes that have ended by themselves."""
        with self._lock:
            return [name for name, child in self.processes.items() if not child.alive]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process."""
        self.processes[name].send(number)

    def stop(self, *, budget_s: float = STOP_S) -> list[str]:
        """Drain and stop everything within the budget; names those that had to be killed."""
        if self._folder_claim is None:
            return []
        end = time.monotonic() + budget_s
        ours = [name for name in self.processes if name != "simulator"]
        for name in ours:
            self.processes[name].send(signal.SIGTERM)
            self.processes[name].send(signal.SIGCONT)
        late = [name for name in ours if not self.processes[name].wait(max(0.0, end - time.monotonic()))]
        for name in late:
            self.processes[name].kill()
        if "simulator" in self.processes:
            self.processes["simulator"].stop(signal.SIGTERM, 1.0)
        for server in (self.nats, self.postgres):
            if server is not None:
                server.stop()
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "run.json").unlink()
        self._folder_claim.close()
        self._folder_claim = None
        return late


def _see_that_the_data_is_found(folder: pathlib.Path, *, clustered: bool) -> None:
    """Refuse to start beside what the other kind of servers keeps: it would seem to be lost; raises SetupError."""
    for other, whose, copies in (("jetstream", "one server", 1), ("server-1", "a cluster", SIZE)):
        if (folder / other).exists() and clustered != (copies > 1):
            cure = f"set SMSGW_REPLICAS={copies} to go on with it, or SMSGW_VAR to another folder to begin anew"
            raise SetupError(f"SMSGW_REPLICAS: {folder} holds the messages of {whose}: {cure}")
