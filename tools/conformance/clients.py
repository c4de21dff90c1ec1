"""The example clients: what each needs on the machine, and how its README says that it is built and run."""

import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

import attrs

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ADDRESS = "127.0.0.1:50051"
"""What stands for the gateway's address in a README."""

_BIN = pathlib.Path(sys.executable).parent
_BUILD_S, _RUN_S = 1200.0, 120.0
_HEAD_LINES, _TAIL_LINES = 8, 20
_VERSION_OF = {"go": ("go", "version"), "java": ("java", "-version")}
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sms-gateway"
_THRIFTY = {
    "CARGO_INCREMENTAL": "0",
    "CARGO_PROFILE_DEV_DEBUG": "0",
    "CARGO_PROFILE_DEV_BUILD_OVERRIDE_DEBUG": "0",
    "CARGO_TARGET_DIR": str(_CACHE / "cargo"),
    "MAVEN_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_COMPILE": "0",  # which is how pip is told not to
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_prefer_offline": "true",
}
"""Makes builds cheap that run once. What was built of Rust's crates is kept, as Go keeps what it builds anyway."""

_PROTOS = ("proto", "third_party", "tools/protoc_gen_grpc_python.py")


@attrs.frozen
class Client:
    """One folder of `examples/`. Its README has one block of commands: the last one runs it, those before build it.

    `needs` is a program and the oldest version that will do; `made` is the git-ignored folder that a build leaves, in
    which a stamp remembers what it was built from.
    """

    name: str
    needs: Mapping[str, tuple[int, ...]]
    made: str

    @property
    def folder(self) -> pathlib.Path:
        """Where it lives, and where its commands run."""
        return EXAMPLES / self.name

    @property
    def commands(self) -> list[str]:
        """The lines of its README as they stand."""
        [block] = re.findall(r"```sh\n(.*?)```", (self.folder / "README.md").read_text(), re.DOTALL)
        return str(block).strip().splitlines()


CLIENTS = (
    Client("python", {"python3": (3, 11)}, "gen"),
    Client("grpc-js", {"node": (18,), "npm": (8,)}, "node_modules"),
    Client("go", {"go": (1, 26)}, "gen"),
    Client("typescript", {"node": (20,), "npm": (8,)}, "node_modules"),
    Client("rust", {"cargo": (1, 85)}, "target"),
    Client("java", {"javac": (17,), "mvn": (3, 6)}, "target"),
)


class ClientFailed(Exception):
    """A client could not be built, or did not end well; the sentence holds an excerpt of what it printed."""


def lacking(client: Client) -> str:
    """Say what the machine lacks for a client; empty when it has everything."""
    for program, least in client.needs.items():
        wanted = f"{program} {'.'.join(map(str, least))}"
        if shutil.which(program, path=_path()) is None:
            return f"needs {wanted}, and there is none"
        found = version(_output(_VERSION_OF.get(program, (program, "--version"))))
        if found < least:
            return f"needs {wanted}, and this is {'.'.join(map(str, found))}"
    return ""


def version(told: str) -> tuple[int, ...]:
    """Find the first version number in what a program tells of itself."""
    found = re.search(r"\d+(\.\d+)*", re.sub(r"\x1b\[[0-9;]*m", "", told))
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def build(client: Client) -> bool:
    """Build a client unless that was done from the same files; tells whether there was something to do."""
    stamp = client.folder / client.made / ".built-from"
    now = _fingerprint(client)
    if stamp.exists() and stamp.read_text() == now:
        return False
    for line in client.commands[:-1]:
        _run(client, line, _BUILD_S)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(now)
    return True


def run(client: Client, *addresses: str) -> str:
    """Let a client walk against a gateway, and a busy one; gives what it printed."""
    line = client.commands[-1]
    if not line.endswith(f" {ADDRESS}"):
        raise ClientFailed(f"the last command of its README does not end with {ADDRESS}")
    return _run(client, line.replace(ADDRESS, " ".join(addresses)), _RUN_S)


def _fingerprint(client: Client) -> str:
    """Hash what a client is made from: every file that git does not ignore."""
    where = [str(client.folder.relative_to(ROOT)), *_PROTOS]
    listed = subprocess.run(  # noqa: S603
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *where],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    digest = hashlib.sha256()
    for name in sorted(filter(None, listed.stdout.decode().split("\0"))):
        path = ROOT / name
        digest.update(f"{name}\0".encode() + (path.read_bytes() if path.exists() else b""))
    return digest.hexdigest()


def _run(client: Client, line: str, patience_s: float) -> str:
    with subprocess.Popen(  # noqa: S603
        ["bash", "-euo", "pipefail", "-c", line],  # noqa: S607
        cwd=client.folder,
        env={**_THRIFTY, **os.environ, "PATH": _path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=patience_s)
        except BaseException as exc:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(exc, subprocess.TimeoutExpired):
                raise ClientFailed(f"`{line}` did not end within {patience_s:g} s") from exc
            raise
    if process.returncode:
        raise ClientFailed(f"`{line}` ended with status {process.returncode}:\n{_excerpt(out + err)}")
    return out


def _excerpt(told: str) -> str:
    """Keep the beginning and the end: some tools name the fault first, others last."""
    lines = told.splitlines()
    if len(lines) > _HEAD_LINES + _TAIL_LINES:
        lines = [*lines[:_HEAD_LINES], "…", *lines[-_TAIL_LINES:]]
    return "\n".join(lines)


def _output(command: tuple[str, ...]) -> str:
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PATH": _path()}
    )
    return done.stdout + done.stderr


def _path() -> str:
    """Give the search path on which buf and its plugins come from this project's environment."""
    return f"{_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
