"""The example clients: the tool chain that each needs, and the commands of its README that build and run it."""

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
"""The gateway's address in a README, which is replaced by the real one."""

_BIN = pathlib.Path(sys.executable).parent
_BUILD_S, _RUN_S = 1200.0, 120.0
_HEAD_LINES, _TAIL_LINES = 8, 20
_VERSION_OF = {"go": ("go", "version"), "java": ("java", "-version")}
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sms-gateway"
_BUILD_ENVIRONMENT = {
    "CARGO_INCREMENTAL": "0",
    "CARGO_PROFILE_DEV_DEBUG": "0",
    "CARGO_PROFILE_DEV_BUILD_OVERRIDE_DEBUG": "0",
    "CARGO_TARGET_DIR": str(_CACHE / "cargo"),
    "MAVEN_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_COMPILE": "0",  # this value turns compiling off
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_prefer_offline": "true",
}
"""Makes one-time builds fast. Rust's build results are kept in a cache, as Go does by default."""

_PROTOS = ("proto", "tools/protoc_gen_grpc_python.py")


@attrs.frozen
class Client:
    """One folder of `examples/`. Its README has one block of commands: the last one runs it, the others build it.

    `needs` maps programs to their minimum versions. `made` is the git-ignored folder that a build creates; a stamp file
    in it holds the hash of what it was built from.
    """

    name: str
    needs: Mapping[str, tuple[int, ...]]
    made: str

    @property
    def folder(self) -> pathlib.Path:
        """The client's folder, in which its commands run."""
        return EXAMPLES / self.name

    @property
    def commands(self) -> list[str]:
        """The commands of its README."""
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
    """A client could not be built, or failed; the sentence has an excerpt of its output."""


def missing_tool(client: Client) -> str:
    """Return what is missing on this machine for a client; empty when nothing is."""
    for program, least in client.needs.items():
        wanted = f"{program} {'.'.join(map(str, least))}"
        if shutil.which(program, path=_path()) is None:
            return f"needs {wanted}, which is not installed"
        found = version(_output(_VERSION_OF.get(program, (program, "--version"))))
        if found < least:
            return f"needs {wanted}, and {'.'.join(map(str, found))} is installed"
    return ""


def version(text: str) -> tuple[int, ...]:
    """Find the first version number in the output of a program."""
    found = re.search(r"\d+(\.\d+)*", re.sub(r"\x1b\[[0-9;]*m", "", text))
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def build(client: Client) -> bool:
    """Build a client unless it was built from the same files before; returns whether it was built."""
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
    """Run a client against a gateway and a busy one; returns its output."""
    line = client.commands[-1]
    if not line.endswith(f" {ADDRESS}"):
        raise ClientFailed(f"the last command of its README does not end with {ADDRESS}")
    return _run(client, line.replace(ADDRESS, " ".join(addresses)), _RUN_S)


def _fingerprint(client: Client) -> str:
    """Hash the sources of a client: every file that git does not ignore."""
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
        env={**_BUILD_ENVIRONMENT, **os.environ, "PATH": _path()},
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


def _excerpt(output: str) -> str:
    """Keep the beginning and the end: some tools report the error first, others last."""
    lines = output.splitlines()
    if len(lines) > _HEAD_LINES + _TAIL_LINES:
        lines = [*lines[:_HEAD_LINES], "…", *lines[-_TAIL_LINES:]]
    return "\n".join(lines)


def _output(command: tuple[str, ...]) -> str:
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PATH": _path()}
    )
    return done.stdout + done.stderr


def _path() -> str:
    """Return a PATH on which buf and its plugins come from this project's environment."""
    return f"{_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
