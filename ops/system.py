"""The whole system on one machine: embedded servers, simulated providers, and each of our processes.

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

from messaging.errors import SetupError, StoppedEarly
from ops.embedded.child import LOCALHOST, Child, Place, free_port
from ops.embedded.cluster import SIZE, NatsCluster
from ops.embedded.nats import NatsServer
from ops.embedded.postgres import Postgres
from ops.embedded.private import append_private, private_folder, tighten, write_private
from ops.first_start import prepare

DRAIN_S = 10.0
"""How long each process may drain (SMSGW_DRAIN_S); with one second more for the servers it stays below STOP_S."""

STOP_S = 13.0
_GATEWAY_S = 30.0
RATE_PER_S = 50
_TOLD = (
    "SMSGW_NATS_URL",
    "SMSGW_REPLICAS",
    "SMSGW_STORAGE_MAX_BYTES",
    "SMSGW_DATABASE_URL",
    "SMSGW_PROVIDERS_FILE",
)
"""Settings that every command needs as the processes have them."""
_OURS = ("up.lock", "run.json", "providers.toml", "log", "nats", "postgres")
"""What a system puts into its folder; versions before made some of it readable for others."""

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

    `providers` are simulated, unless the environment names a providers file; `tables` adds lines to the providers-file
    tables of some of them, and `other_providers` are whole tables, by name, for providers that somebody else simulates.
    With `together_from` providers or more, one dispatcher process serves all (or as many as `dispatchers_each` says),
    else each provider has its own. `nats_servers` is 1, or 3: a cluster with three replicas of every stream, each
    server at its own of `nats_places` if there are any. `own_settings` returns extra environment variables for one
    process, given the process's name and environment.
    """

    folder: pathlib.Path
    environment: Mapping[str, str] = attrs.Factory(dict)
    providers: Sequence[str] = ("p1", "p2", "p3", "p4", "p5")
    tables: Mapping[str, Sequence[str]] = attrs.Factory(dict)
    dispatchers_each: int = 1
    together_from: int = 9
    gateways: int = 1
    listen: str = ""
    durable: bool = True
    nats_servers: int = 1
    nats_places: Sequence[Place] = ()
    other_providers: Mapping[str, str] = attrs.Factory(dict)
    projectors: int = 1
    coordinators: int = 1
    simulator_latency_s: str = _SIMULATED_LATENCY_S
    rate_per_s: int = RATE_PER_S
    own_settings: Callable[[str, Mapping[str, str]], Mapping[str, str]] = lambda _name, _environment: {}


class System:
    """Starts everything, the gateway last, so that what it accepts is sent at once; and stops everything.

    `told` is called with the name of each step of the start, from the starting thread.
    """

    def __init__(self, plan: Plan, told: Callable[[str], None] = lambda _step: None) -> None:
        self.plan = plan
        self._told = told
        self._abandoned = threading.Event()
        self.folder = plan.folder.resolve()
        self.logs = self.folder / "log"
        self.processes: dict[str, Child] = {}
        self.commands: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {}
        self.nats: NatsServer | NatsCluster | None = None
        self.postgres: Postgres | None = None
        self.gateways: list[str] = []
        self.simulators: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self._first_start = False
        self._lock = threading.Lock()
        self._folder_lock: IO[bytes] | None = None

    def start(self) -> None:
        """Start everything. Returns when every process exists; they may not answer yet.

        Raises SetupError, and StoppedEarly after `abandon`.
        """
        private_folder(self.folder)
        self._lock_folder()
        tighten(self.folder / name for name in _OURS)
        private_folder(self.logs)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        self.environment = {**inherited, **self.plan.environment, "PYTHONUNBUFFERED": "1"}
        self.environment.setdefault("SMSGW_DRAIN_S", f"{DRAIN_S:g}")
        with ThreadPoolExecutor(1) as pool:
            self._choose_database()
            database = pool.submit(self.postgres.start) if self.postgres else None
            self._step("nats-server and PostgreSQL")
            self._start_nats()
            self._step("the simulated providers and the dispatchers")
            self._start_simulators()
            if self._first_start:
                prepare(self.environment, self._provider_names())
            for index in range(self.plan.coordinators):
                self.spawn(f"coordinator-{index + 1}", "dispatcher", "coordinate")
            self._start_dispatchers()
            self._step("the gateway")
            for index in range(self.plan.gateways):
                self._start_gateway(index)
            self.write_run_file()  # the gateway may answer before this returns
            self._wait_for_gateways()
            if database is not None:
                self._step("PostgreSQL, which takes a moment at its first start")
                database.result()
        if self.plan.projectors:
            self._step("the history")
            self._migrate()
            for index in range(self.plan.projectors):
                self.spawn(f"projector-{index + 1}", "dispatcher", "project")

    def _start_dispatchers(self) -> None:
        names = self._provider_names()
        together = len(names) >= self.plan.together_from
        for name in ["all"] if together else names:
            chosen = ["--all"] if together else ["--provider", name]
            for index in range(self.plan.dispatchers_each):
                self.spawn(f"dispatcher-{name}-{index + 1}", "dispatcher", "work", *chosen)

    def abandon(self) -> None:
        """Let `start` end at its next step; `stop` then stops what was started."""
        self._abandoned.set()

    def _step(self, what: str) -> None:
        if self._abandoned.is_set():
            raise StoppedEarly
        self._told(what)

    @property
    def holds_folder(self) -> bool:
        """Whether this system runs in its folder, or has begun to."""
        return self._folder_lock is not None

    def _lock_folder(self) -> None:
        """Lock the folder against a second system, until this process ends; raises SetupError."""
        lock = append_private(self.folder / "up.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            cure = "to start a second one, set SMSGW_VAR to another folder and SMSGW_LISTEN to another address"
            raise SetupError(f"another system runs in {self.folder} and keeps running: {cure}") from None
        self._folder_lock = lock

    def _start_nats(self) -> None:
        if "SMSGW_NATS_URL" not in self.environment:
            clustered = self.plan.nats_servers > 1
            folder = self.folder / "nats"
            _check_data_folder(folder, clustered=clustered)
            self._first_start = not any(folder.glob("*"))
            self.nats = NatsCluster(folder, places=self.plan.nats_places) if clustered else NatsServer(folder)
            self.nats.start()
            if isinstance(self.nats, NatsCluster):
                self.environment.setdefault("SMSGW_REPLICAS", str(self.plan.nats_servers))
                self.environment.setdefault("SMSGW_STORAGE_MAX_BYTES", str(self.nats.room_bytes))
            self.environment["SMSGW_NATS_URL"] = self.nats.url

    def _choose_database(self) -> None:
        if "SMSGW_DATABASE_URL" not in self.environment and self.plan.projectors:
            self.postgres = Postgres(self.folder / "postgres", free_port(), durable=self.plan.durable)
            self.environment["SMSGW_DATABASE_URL"] = self.postgres.url

    def _wait_for_gateways(self) -> None:
        """Wait until every gateway listens. Stops when a process has ended; `wait_until_serving` reports that."""
        end = time.monotonic() + _GATEWAY_S
        for listen in self.gateways:
            host, _, port = listen.rpartition(":")
            while time.monotonic() < end and not self.dead() and not self._abandoned.is_set():
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
        head = "# Written again at every start; set SMSGW_PROVIDERS_FILE to use your own file.\n"
        tables = [self._provider_table(name, url) for name, url in self.simulators.items()]
        write_private(path, head + "".join([*tables, *self.plan.other_providers.values()]))
        self.environment["SMSGW_PROVIDERS_FILE"] = str(path)
        pairs = [part for name, port in ports.items() for part in ("--provider", f"{name}:{port}")]
        self.spawn("simulator", "ops.simulator", *pairs, "--latency", self.plan.simulator_latency_s)

    def _provider_table(self, name: str, url: str) -> str:
        lines = "\n".join(self.plan.tables.get(name, ()))
        head = f'\n[[provider]]\nname = "{name}"\nadapter = "simulated"\nurl = "{url}"\n'
        return f"{head}rate_per_s = {self.plan.rate_per_s}\n{lines}\n"

    def _provider_names(self) -> list[str]:
        if self.simulators:
            return [*self.simulators, *self.plan.other_providers]
        from messaging.runtime.providers_file import read_providers

        return [one.name for one in read_providers(self.environment["SMSGW_PROVIDERS_FILE"], self.environment)]

    def _start_gateway(self, index: int) -> None:
        listen = self.plan.listen if index == 0 and self.plan.listen else f"127.0.0.1:{free_port()}"
        self.gateways.append(listen)
        self.spawn(f"gateway-{index + 1}", "gateway_grpc", SMSGW_LISTEN=listen)

    def spawn(self, name: str, module: str, *arguments: str, **settings: str) -> Child:
        """Start one of our processes under a name; its log is `log/<name>.log`."""
        self.commands[name] = ((module, *arguments), settings)
        return self.restart(name)

    def restart(self, name: str) -> Child:
        """Start a process that has ended again, with the same command."""
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
        """Write the file from which smsctl reads where everything is."""
        run: dict[str, str] = {key: self.environment[key] for key in _TOLD if key in self.environment}
        run["SMSGW_LISTEN"] = self.gateways[0]
        write_private(self.folder / "run.json", json.dumps({"environment": run, "simulators": self.simulators}))

    def dead(self) -> list[str]:
        """Return the names of the processes that have ended by themselves."""
        with self._lock:
            return [name for name, child in self.processes.items() if not child.alive]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process."""
        self.processes[name].send(number)

    def stop(self, *, budget_s: float = STOP_S) -> list[str]:
        """Drain and stop everything within the budget; returns the names of processes that had to be killed."""
        if self._folder_lock is None:
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
        self._folder_lock.close()
        self._folder_lock = None
        return late


def _check_data_folder(folder: pathlib.Path, *, clustered: bool) -> None:
    """Refuse a folder with data of the other kind of server, which would not be read; raises SetupError."""
    for other, whose, copies in (("jetstream", "one server", 1), ("server-1", "a cluster", SIZE)):
        if (folder / other).exists() and clustered != (copies > 1):
            cure = f"set SMSGW_REPLICAS={copies} to keep using it, or set SMSGW_VAR to another folder to start empty"
            raise SetupError(f"SMSGW_REPLICAS: {folder} holds the messages of {whose}: {cure}")
