"""One server process: started in its own session, watched by a thread of its own, gone when its parent is gone.

The kernel sends the death signal when the *thread* that started a child ends, not only the process. So each child has
a keeper thread that starts it, stays until it has ended, and reaps it; a pool's short-lived thread would take the
server with it.
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
from collections.abc import Mapping, Sequence

import attrs

from messaging.errors import SetupError
from ops.embedded import tether
from ops.embedded.port_reservation import claim

LOCALHOST = "127.0.0.1"
START_S = 60.0
"""Recovery of a large store after a kill counts into it."""

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


@attrs.frozen
class Account:
    """The user and group that a server runs as."""

    name: str
    user: int
    group: int


def free_port() -> int:
    """Find a TCP port on localhost that nobody listens on, and that nobody was told of in the last minute."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOCALHOST, port))
            except OSError:
                continue
        if claim(port):
            return port


def free_ports(count: int) -> list[int]:
    """Find so many different ports."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


class Child:
    """A running server; the constructor returns as soon as the process exists.

    `log` receives all that it prints, `script` is what it reads; `lock` is the file that keeps a second server out of
    the same folder; `environment` is all that it sees. Raises OSError when the interpreter cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | pathlib.Path],
        *,
        log: pathlib.Path,
        lock: pathlib.Path,
        death_signal: signal.Signals,
        account: Account | None = None,
        script: pathlib.Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        self._environment = dict(environment) if environment is not None else {"PATH": os.defpath, "LC_ALL": "C"}
        self._script = script or pathlib.Path(os.devnull)
        self._log_start = log.stat().st_size if log.exists() else 0
        self._ended = threading.Event()
        born: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        arguments = [
            *(sys.executable, "-I", "-S", tether.__file__, str(int(death_signal)), str(os.getpid())),
            *((str(account.user), str(account.group)) if account else ("-1", "-1")),
            *map(str, (lock, *command)),
        ]
        threading.Thread(target=self._keep, args=(arguments, born), name=f"keeper-{log.stem}", daemon=True).start()
        answer = born.get()
        if isinstance(answer, OSError):
            raise answer
        self._process = answer

    def _keep(self, arguments: list[str], born: "queue.SimpleQueue[subprocess.Popen[bytes] | OSError]") -> None:
        try:
            with self._log.open("ab") as log, self._script.open("rb") as script:
                process = subprocess.Popen(  # noqa: S603
                    arguments,
                    stdin=script,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as exc:
            born.put(exc)
            return
        born.put(process)
        process.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        """The server's process id, also after its end."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return not self._ended.is_set()

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        return self._process.returncode if self._ended.is_set() else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process has ended; False when it has not in time."""
        return self._ended.wait(timeout_s)

    def stop(self, number: signal.Signals, timeout_s: float) -> None:
        """Ask the process to end, and kill it when it does not in time; also ends one that is paused."""
        self.send(number)
        self.send(signal.SIGCONT)
        if not self.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self.send(signal.SIGKILL)
        self._ended.wait()

    def tail(self) -> str:
        """Give the end of what this run has printed."""
        with self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
