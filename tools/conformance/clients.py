"""The example clients: what each needs on the machine, how it is built, and how it is run."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping

import attrs

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
_BIN = pathlib.Path(sys.executable).parent
_BUILD_S, _RUN_S = 1200.0, 120.0
_TAIL_LINES = 25
_VERSION_OF = {"go": ("go", "version"), "java": ("java", "-version")}
_PROTOS = ("proto", "third_party", "tools/protoc_gen_grpc_python.py")


@attrs.frozen
class Client:
    """One folder of `examples/`.

    `needs` is a program and the oldest version that will do; `made` is the git-ignored folder that a build leaves, in
    which a stamp remembers what it was built from.
    """

    name: str
    needs: Mapping[str, tuple[int, ...]]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]
    made: str
    settings: Mapping[str, str] = attrs.Factory(dict)

    @property
    def folder(self) -> pathlib.Path:
        """Where it lives, and where its commands run."""
        return EXAMPLES / self.name


CLIENTS = (
    Client(
        "python",
        {},
        (("buf", "generate"),),
        (sys.executable, "client.py"),
        "gen",
        {"PYTHONPATH": "gen"},  # before what this project itself has installed
    ),
    Client(
        "grpc-js",
        {"node": (18,), "npm": (8,)},
        (("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"),),
        ("node", "client.mjs"),
        "node_modules",
    ),
)


class ClientFailed(Exception):
    """A client could not be built, or did not end well; the sentence holds the end of what it printed."""


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
    found = re.search(r"\d+(\.\d+)*", told)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def build(client: Client) -> bool:
    """Build a client unless that was done from the same files; tells whether there was something to do."""
    stamp = client.folder / client.made / ".built-from"
    now = _fingerprint(client)
    if stamp.exists() and stamp.read_text() == now:
        return False
    for command in client.build:
        _run(client, command, _BUILD_S)
    stamp.write_text(now)
    return True


def run(client: Client, *addresses: str) -> str:
    """Let a client walk against a gateway, and a busy one; gives what it printed."""
    return _run(client, (*client.run, *addresses), _RUN_S)


def _fingerprint(client: Client) -> str:
    """Hash what a client is made from: every file that git does not ignore."""
    where = [str(client.folder.relative_to(ROOT)), *_PROTOS]
    listed = subprocess.run(  # noqa: S603
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *where],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    digest = hashlib.sha256(repr(client.build).encode())
    for name in sorted(filter(None, listed.stdout.decode().split("\0"))):
        path = ROOT / name
        digest.update(f"{name}\0".encode() + (path.read_bytes() if path.exists() else b""))
    return digest.hexdigest()


def _run(client: Client, command: tuple[str, ...], patience_s: float) -> str:
    environment = {**os.environ, "PATH": _path(), **client.settings}
    line = " ".join(command)
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=client.folder,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ClientFailed(f"`{line}` did not end within {patience_s:g} s") from exc
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-_TAIL_LINES:])
        raise ClientFailed(f"`{line}` ended with status {done.returncode}:\n{tail}")
    return done.stdout


def _output(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    return done.stdout + done.stderr


def _path() -> str:
    """Give the search path on which buf and its plugins come from this project's environment."""
    return f"{_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
