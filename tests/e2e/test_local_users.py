"""What another user of the machine can do to a running `smsctl up`: nothing but call the gateway, as documented."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import nats
import pytest

from tests.local_user import as_nobody
from tests.up_process import BIN, Up

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

_SECRET = "the text of a customer"
_WAIT_S = 5.0


@pytest.fixture(scope="module", params=["1", "3"], ids=["one server", "a cluster"])
def up(request: pytest.FixtureRequest, open_folder: pathlib.Path) -> Iterator[Up]:
    """A running system, in a folder that an earlier version left open to everybody."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=open_folder))
    folder.chmod(0o755)
    for name in ("var/log", "var/nats", "var/postgres"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "old.log").write_text("left by an earlier version")
    for path in (folder / "var", *(folder / "var").rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    one = Up(folder, SMSGW_REPLICAS=str(request.param))
    before = os.umask(0)
    try:
        one.start()
        one.run(f"{BIN}/smsctl send +233201234567 '{_SECRET}' --wait")
        yield one
    finally:
        os.umask(before)
        one.process.send_signal(2)
        one.process.wait(60)


def urls(up: Up) -> tuple[list[str], str]:
    """Return the URLs of the nats-servers and of the database, with their passwords."""
    found = json.loads((up.folder / "var/run.json").read_text())["environment"]
    return found["SMSGW_NATS_URL"].split(","), found["SMSGW_DATABASE_URL"]


def passwords(up: Up) -> list[str]:
    servers, database = urls(up)
    found = [urlsplit(url).password or "" for url in (*servers, database)]
    config = "".join(path.read_text() for path in (up.folder / "var/nats").rglob("nats-server.conf"))
    found += re.findall(r'password: "(.*?)"', config) + re.findall(r'http_base_path: "/(.*?)"', config)
    assert all(len(one) >= 32 for one in found)
    return found


def postmaster(up: Up) -> int:
    return int((up.folder / "var/postgres/data/postmaster.pid").read_text().split()[0])


async def refusal(**arguments: Any) -> str:
    """Try to connect to PostgreSQL; return the name of the exception, or what the connection can do."""
    try:
        connection = await asyncpg.connect(timeout=_WAIT_S, **arguments)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        return type(exc).__name__
    return f"connected as {await connection.fetchval('select current_user')}"


def database_refusals(port: int, sockets: list[str]) -> list[str]:
    async def all_of_them() -> list[str]:
        users = ("smsgw", "postgres", "nobody", "root", "admin")
        found = []
        for host in ("127.0.0.1", "::1", *sockets):
            for user in users:
                for password in (None, "", user):
                    arguments = {"host": host, "port": port, "user": user, "database": "smsgw", "ssl": False}
                    found.append(await refusal(password=password, **arguments))
        return found

    return asyncio.run(all_of_them())


def test_postgresql_lets_nobody_in_without_the_password(up: Up) -> None:
    port = urlsplit(urls(up)[1]).port or 0
    data = up.folder / "var/postgres/data"
    sockets = [str(data), f"/proc/{postmaster(up)}/cwd", "/tmp", "/run/postgresql", "/var/run/postgresql"]  # noqa: S108
    found = set(as_nobody(database_refusals, port, sockets))
    assert found <= {
        *("InvalidPasswordError", "InvalidAuthorizationSpecificationError", "ConnectionRefusedError"),
        *("PermissionError", "FileNotFoundError", "ClientConfigurationError", "InternalClientError", "OSError"),
    }
    assert "InvalidPasswordError" in found


def stream_refusals(ports: list[int]) -> list[str]:
    async def one(port: int, **options: Any) -> str:
        async def quiet(_error: Exception) -> None: ...

        try:
            connection = await nats.connect(
                f"nats://127.0.0.1:{port}",
                allow_reconnect=False,
                max_reconnect_attempts=0,
                connect_timeout=_WAIT_S,
                error_cb=quiet,
                **options,
            )
        except (TimeoutError, nats.errors.Error, OSError) as exc:
            return str(exc)
        await connection.close()
        return "connected"

    async def all_of_them() -> list[str]:
        tries: list[dict[str, str]] = [{}, {"user": "smsgw", "password": ""}, {"user": "smsgw", "password": "smsgw"}]
        return [await one(port, **options) for port in ports for options in tries]

    return asyncio.run(all_of_them())


def test_nats_lets_nobody_in_without_the_password(up: Up) -> None:
    ports = [urlsplit(url).port or 0 for url in urls(up)[0]]
    for told in as_nobody(stream_refusals, ports):
        assert "authorization violation" in told.lower()


def test_nats_lets_nobody_join_as_a_server_or_read_its_monitoring(up: Up) -> None:
    config = "".join(path.read_text() for path in (up.folder / "var/nats").rglob("nats-server.conf"))
    routes = {int(port) for port in re.findall(r'cluster \{.*?listen: "127.0.0.1:(\d+)"', config, re.DOTALL)}
    monitors = {int(port) for port in re.findall(r'^http: "127.0.0.1:(\d+)"', config, re.MULTILINE)}
    for told in as_nobody(route_answers, sorted(routes)):
        assert "Authorization" in told
    for told in as_nobody(monitor_answers, sorted(monitors)):
        assert " 404 " in told.splitlines()[0]
        assert "streams" not in told


def route_answers(ports: list[int]) -> list[str]:
    """Pretend to be a server of the cluster."""
    info = b'CONNECT {"verbose":false,"pedantic":false,"name":"x","cluster":"x"}\r\nINFO {"server_id":"x"}\r\nPING\r\n'
    return [said(port, info) for port in ports]


def monitor_answers(ports: list[int]) -> list[str]:
    paths = ("/", "/varz", "/jsz?streams=1", "/connz?auth=1&subs=1", "/healthz")
    return [said(port, f"GET {path} HTTP/1.0\r\n\r\n".encode()) for port in ports for path in paths]


def said(port: int, words: bytes) -> str:
    with socket.create_connection(("127.0.0.1", port), _WAIT_S) as peer:
        peer.sendall(words)
        answer = b""
        with contextlib.suppress(OSError):
            while more := peer.recv(65536):
                answer += more
    return answer.decode(errors="replace")


def readable(folder: str, names: list[str]) -> list[str]:
    """Return what of these files, and of all that can be found in the folder, can be opened or listed."""
    found = []
    for path in (folder, *names):
        with contextlib.suppress(OSError):
            os.listdir(path) if pathlib.Path(path).is_dir() else pathlib.Path(path).read_bytes()  # noqa: PTH208
            found.append(path)
    return found


def test_nothing_below_the_data_folder_is_open_to_others(up: Up) -> None:
    var = up.folder / "var"
    everything = [var, *var.rglob("*")]
    assert any(path.name == "old.log" for path in everything)
    assert len([path for path in everything if path.is_file()]) > 50
    for path in everything:
        assert not stat.S_IMODE(path.lstat().st_mode) & 0o077 or path.is_symlink(), path
    assert as_nobody(readable, str(var), [str(path) for path in everything]) == []


def seen_in_proc() -> list[str]:
    """Read whatever /proc shows of other processes: commands, environments, files."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ", "maps", "auxv"):
            with contextlib.suppress(OSError):
                found.append((entry / name).read_bytes().decode(errors="replace"))
        for link in ("cwd", "root", "exe"):
            with contextlib.suppress(OSError):
                found.append(str((entry / link).readlink()))
    return found


def test_no_password_and_no_text_is_in_what_proc_shows_to_others(up: Up) -> None:
    shown = "\n".join(as_nobody(seen_in_proc))
    assert "postgres" in shown
    for password in passwords(up):
        assert password not in shown
    assert _SECRET not in shown


def test_no_password_is_in_a_log(up: Up) -> None:
    logs = [up.log, *(up.folder / "var").rglob("*.log")]
    assert len(logs) > 5
    for log in logs:
        told = log.read_text(errors="replace")
        for password in passwords(up):
            assert password not in told, log


def look_into(pid: int) -> list[str]:
    names = ("cwd", "root", "fd", "mem", "environ", "maps")
    found = []
    for name in names:
        with contextlib.suppress(OSError):
            path = pathlib.Path(f"/proc/{pid}/{name}")
            os.listdir(path) if path.is_dir() else path.open("rb").read(1)  # noqa: PTH208
            found.append(name)
    return found


def test_no_process_of_postgresql_has_a_capability_or_shares_its_account(up: Up) -> None:
    pid = postmaster(up)
    backends = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(backends) > 3
    accounts = {line.split(":")[2] for line in pathlib.Path("/etc/passwd").read_text().splitlines()}
    for one in (str(pid), *backends):
        status = dict(
            line.split(":\t", 1)
            for line in pathlib.Path(f"/proc/{one}/status").read_text().splitlines()
            if ":\t" in line
        )
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
        assert status["NoNewPrivs"] == "1"
        assert set(status["Uid"].split()).isdisjoint({"0", *accounts})
        assert set(status["Gid"].split()).isdisjoint({"0"})
        assert status["Groups"].split() == []
        assert as_nobody(look_into, int(one)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "select pg_read_file('/etc/passwd')",
        "select pg_ls_dir('/')",
        "copy (select 1) to program 'true'",
        "create table x (y text); copy x from program 'id'",
        "copy (select 1) to '/tmp/x'",
        "select lo_import('/etc/passwd')",
        "alter role smsgw superuser",
        "create role other",
        "select * from pg_authid",
        "load 'plpgsql'",
        "create language plperlu",
    ],
)
async def test_not_even_with_the_password_can_files_be_read_or_programs_run(up: Up, statement: str) -> None:
    connection = await asyncpg.connect(urls(up)[1], timeout=_WAIT_S)
    try:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
            await connection.execute(statement)
    finally:
        await connection.close()


def test_a_shared_folder_is_refused_with_the_remedy(open_folder: pathlib.Path) -> None:
    shared = open_folder / "shared-by-all"
    shared.mkdir(exist_ok=True)
    shared.chmod(0o1777)
    done = subprocess.run(
        [BIN / "smsctl", "up"],
        cwd=open_folder,
        env={**os.environ, "SMSGW_VAR": str(shared), "SMSGW_LISTEN": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said_so = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "is shared with all users of this machine: choose a folder of its own" in said_so
    assert "Traceback" not in said_so
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_postgresql_is_not_started_from_a_place_that_others_can_write(up: Up) -> None:
    program = pathlib.Path(f"/proc/{postmaster(up)}/exe").resolve()
    for path in (program, *program.parents):
        assert not path.stat().st_mode & 0o022, path
