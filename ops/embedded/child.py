"""A child process that ends with its parent, started in its own session.

The kernel sends the parent-death signal when the *thread* that started the child ends, not only when the process does.
So each child has its own thread, which starts it, waits until it ends, and reaps it. If a short-lived pool thread
started it, the end of that thread would kill the child.
"""

import os
import pathlib
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import attrs

from messaging.errors import SetupError
from ops.embedded import launcher
from ops.embedded.accounts import Account
from ops.embedded.port_reservation import reserve
from ops.embedded.private import append_private

LOCALHOST = "127.0.0.1"
START_S = 60.0
"""How long a server may take to start, including the recovery of a large store after a kill."""

_TAIL_BYTES = 2000
_PORTS = range(15_000, 32_000)  # below the kernel's ephemeral range: no outgoing connection takes it between restarts


class ServerFailed(SetupError):
    """An embedded server did not start; `tail` holds the end of its log."""

    reason = "SERVER_FAILED"

    def __init__(self, server: str, why: str, tail: str) -> None:
        self.server = server
        self.why = why
        self.tail = tail
        super().__init__(f"{server} {why}" + (f"; its log ends with:\n{tail}" if tail else ""))


def free_port() -> int:
    """Find a TCP port on localhost that nothing listens on and that nobody else got in the last minute."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOCALHOST, port))
            except OSError:
                continue
        if reserve(port):
            return port


def free_ports(count: int) -> list[int]:
    """Find `count` different ports."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _stay() -> None:
    """Leave the thread where it is."""


@attrs.frozen
class Place:
    """Where a server runs: its address, and what the thread that starts it does first, such as to enter a namespace."""

    host: str = LOCALHOST
    enter: Callable[[], None] = _stay


HERE = Place()


class Child:
    """A running child process; the constructor returns as soon as the process exists.

    `log` receives its output. `lock` is the file whose lock keeps a second server out of the same folder. `rights` are
    explained in `launcher`; with an `account` they are not `all`. It works in `folder`. `environment` replaces the
    whole environment; like a file it is closed to other users, which the command is not. It starts in `place`. Raises
    OSError when Python cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | pathlib.Path],
        *,
        log: pathlib.Path,
        lock: pathlib.Path,
        death_signal: signal.Signals,
        account: Account | None = None,
        rights: Literal["all", "fence", "none"] = "all",
        folder: pathlib.Path = pathlib.Path("/"),
        environment: Mapping[str, str] | None = None,
        place: Place = HERE,
    ) -> None:
        self._log = log
        self._place = place
        self._environment = dict(environment) if environment is not None else {"PATH": os.defpath, "LC_ALL": "C"}
        self._log_start = log.stat().st_size if log.exists() else 0
        self._ended = threading.Event()
        started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        arguments = [
            *(sys.executable, "-I", "-S", launcher.__file__, str(int(death_signal)), str(os.getpid())),
            *((str(account.user), str(account.group)) if account else ("-1", "-1")),
            *map(str, (rights, folder, lock, *command)),
        ]
        threading.Thread(target=self._run, args=(arguments, started), name=f"child-{log.stem}", daemon=True).start()
        process = started.get()
        if isinstance(process, OSError):
            raise process
        self._process = process

    def _run(self, arguments: list[str], started: "queue.SimpleQueue[subprocess.Popen[bytes] | OSError]") -> None:
        try:
            self._place.enter()
            with append_private(self._log) as log:
                process = subprocess.Popen(  # noqa: S603
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as exc:
            started.put(exc)
            return
        started.put(process)
        process.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        """The process id, also after the process has ended."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is still running."""
        return not self._ended.is_set()

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        return self._process.returncode if self._ended.is_set() else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; does nothing when the process has ended."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process has ended; False when it is still running after `timeout_s`."""
        return self._ended.wait(timeout_s)

    def stop(self, number: signal.Signals, timeout_s: float) -> None:
        """Ask the process to end, and kill it when it does not in time; works on a paused process too."""
        self.send(number)
        self.send(signal.SIGCONT)
        if not self.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self.send(signal.SIGKILL)
        self._ended.wait()

    def tail(self) -> str:
        """Return the last 2,000 bytes that this run printed."""
        with self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
