"""`smsctl up` as its own process, as a user starts it."""

import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

from ops.embedded.child import free_port

BIN = pathlib.Path(sys.executable).parent


class Up:
    """A running `smsctl up` in a folder."""

    def __init__(self, folder: pathlib.Path, **settings: str) -> None:
        self.folder = folder
        self.listen = settings.get("SMSGW_LISTEN") or f"127.0.0.1:{free_port()}"
        self.environment = {**os.environ, "SMSGW_VAR": str(folder / "var"), "SMSGW_LISTEN": self.listen, **settings}
        self.log = folder / "up.log"

    def begin(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [BIN / "smsctl", "up"], cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def start(self) -> None:
        self.begin()
        self.wait_for("Try, in another terminal")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 90
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> float:
        """Press Ctrl-C; return the seconds until it has ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.log.read_text()
        return time.monotonic() - began

    def run(self, line: str) -> str:
        """Run a printed line."""
        done = subprocess.run(
            shlex.split(line),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def left(self) -> list[str]:
        """Return the processes that still use the folder."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(self.folder / "var").encode() in words and int(entry.name) != os.getpid():
                found.append((entry / "cmdline").read_bytes().decode())
        return found
