"""`smsctl up` as a user starts it: the printed lines work, and Ctrl-C leaves nothing behind."""

import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest

from ops.embedded import NatsServer, Postgres
from ops.embedded.child import free_port
from tests.up_process import BIN, Up

ROOT = pathlib.Path(__file__).parents[2]
OURS = {"gateway", "coordinator", "dispatcher", "projector"}


@pytest.fixture(scope="module")
def up(open_folder: pathlib.Path) -> Iterator[Up]:
    folder = pathlib.Path(tempfile.mkdtemp(dir=open_folder))
    one = Up(folder)
    one.start()
    yield one  # the last test stops it
    if one.process.poll() is None:
        one.process.kill()
        one.process.wait()


def test_lines_of_the_readme_work(up: Up) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(".venv/bin/")]
    assert len(lines) >= 4
    message_id = ""
    for line in lines:
        here = line.replace(".venv/bin/", f"{BIN}/", 1).replace("127.0.0.1:50051", up.listen)
        told = up.run(here.replace("MESSAGE_ID", message_id))
        message_id = message_id or json.loads(told)["messageId"]
        assert message_id in told or "SENT" in told


DOCUMENTS = [path for path in sorted((ROOT / "docs").glob("*.md")) if "\n```sh" in path.read_text()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_of_the_documents_works_or_is_marked_as_outside(
    up: Up, document: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A block starts with ```sh and is run, with ```sh fails and must fail, or with ```sh outside and is skipped."""
    (tmp_path / ".venv").symlink_to(BIN.parent)
    for part in ("proto", "proto-internal"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    for kind, block in re.findall(r"^```sh *(.*?)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE):
        assert kind in {"", "fails", "outside"}, kind
        if kind == "outside":
            continue
        script = block.replace("127.0.0.1:50051", up.listen)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=up.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert (done.returncode != 0) == (kind == "fails"), f"{script}\n{done.stdout}\n{done.stderr}"


def test_existing_servers_are_used_when_they_are_named(open_folder: pathlib.Path) -> None:
    folder = open_folder / "existing"
    folder.mkdir()
    nats, postgres = NatsServer(folder / "nats"), Postgres(folder / "postgres", durable=False)
    nats.start()
    postgres.start()
    one = Up(folder, SMSGW_NATS_URL=nats.url, SMSGW_DATABASE_URL=postgres.url)
    one.start()
    told = one.run(f"{BIN}/smsctl send +233201234567 Hello --wait")
    assert "SENT" in told
    assert not (folder / "var" / "nats").exists()
    assert not (folder / "var" / "postgres").exists()
    assert one.stop() < 15
    nats.stop()
    postgres.stop()


def refused(folder: pathlib.Path, **settings: str) -> str:
    """Return what `up` prints when it cannot start."""
    listen = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        [BIN / "smsctl", "up"],
        cwd=folder,
        env={**os.environ, "SMSGW_LISTEN": listen, "SMSGW_VAR": str(folder / "var"), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    return said


def test_three_replicas_start_three_servers_and_keep_that_number(open_folder: pathlib.Path) -> None:
    folder = pathlib.Path(tempfile.mkdtemp(dir=open_folder))
    one = Up(folder, SMSGW_REPLICAS="3")
    one.start()
    del one.environment["SMSGW_REPLICAS"]  # as in another terminal
    assert "SENT" in one.run(f"{BIN}/smsctl send +233201234567 Hello --wait")
    told = json.loads(one.run(f"{BIN}/smsctl topology --json"))
    assert {found["state"] for found in told} == {"as wanted"}
    nats = json.loads((folder / "var" / "run.json").read_text())["environment"]["SMSGW_NATS_URL"]
    assert nats.count("@127.0.0.1:") == 3
    assert "NO_STORAGE_LIMIT" not in one.run(f"{BIN}/smsctl lanes --json")
    assert one.stop() < 15
    assert one.left() == []
    said = refused(folder, SMSGW_REPLICAS="1")
    assert "set SMSGW_REPLICAS=3 to keep using it" in " ".join(said.split())


def test_more_replicas_than_servers_are_refused_with_the_remedy(open_folder: pathlib.Path) -> None:
    folder = pathlib.Path(tempfile.mkdtemp(dir=open_folder))
    said = refused(folder, SMSGW_REPLICAS="5")
    assert "SMSGW_REPLICAS: 5 copies" in said
    assert "SMSGW_NATS_URL" in said


def test_taken_address_is_named_with_the_remedy(open_folder: pathlib.Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [BIN / "smsctl", "up"],
            cwd=open_folder,
            env={**os.environ, "SMSGW_LISTEN": address, "SMSGW_VAR": str(open_folder / "taken")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 0
    assert f"SMSGW_LISTEN: {address} cannot be used" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_second_system_in_the_same_folder_is_refused_at_once_and_the_first_keeps_running(up: Up) -> None:
    run_file = up.folder / "var" / "run.json"
    providers = up.folder / "var" / "providers.toml"
    before = run_file.read_text(), providers.read_text()
    for listen, cure in ((up.listen, "SMSGW_LISTEN"), (f"127.0.0.1:{free_port()}", "SMSGW_VAR")):
        second = subprocess.run(
            [BIN / "smsctl", "up"],
            cwd=up.folder,
            env={**up.environment, "SMSGW_LISTEN": listen},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = second.stdout + second.stderr
        assert second.returncode in {1, 78}, said
        assert "another" in said
        assert "keeps running" in " ".join(said.split())
        assert "Stopped" not in said
        assert cure in said
        assert "Traceback" not in said
    assert (run_file.read_text(), providers.read_text()) == before
    up.run(f"{BIN}/smsctl send +233201234567 Hello --wait")


@pytest.mark.parametrize("until", ["Starting in", "nats-server and", "the gateway", "the dispatchers", "the history"])
def test_ctrl_c_during_the_start_ends_cleanly_and_leaves_nothing(open_folder: pathlib.Path, until: str) -> None:
    one = Up(pathlib.Path(tempfile.mkdtemp(dir=open_folder)))
    one.begin()
    one.wait_for(until)
    began = time.monotonic()
    one.process.send_signal(signal.SIGINT)
    code = one.process.wait(30)
    said = one.log.read_text()
    assert time.monotonic() - began < 20
    assert "Traceback" not in said
    assert code == 0, said
    assert "Stopped." in said
    assert one.left() == []


def test_closed_terminal_drains_as_ctrl_c_does_and_leaves_nothing(open_folder: pathlib.Path) -> None:
    one = Up(pathlib.Path(tempfile.mkdtemp(dir=open_folder)))
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(one.folder)
        os.execve(BIN / "smsctl", ["smsctl", "up"], one.environment)  # noqa: S606 - in the new terminal
    said = b""
    while b"Ctrl-C drains and stops" not in said:
        said += os.read(terminal, 65_536)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert one.left() == []
    (log,) = (one.folder / "var" / "log").glob("gateway-*.log")
    assert '"event": "stopped"' in log.read_text(), "it was told to stop, and did"


def test_smsctl_finds_the_gateway_as_soon_as_it_answers(open_folder: pathlib.Path) -> None:
    one = Up(pathlib.Path(tempfile.mkdtemp(dir=open_folder)))
    one.begin()
    one.wait_for("PostgreSQL, which takes a moment")  # said when the gateway answers
    del one.environment["SMSGW_LISTEN"]  # as in another terminal
    assert "Accepted" in one.run(f"{BIN}/smsctl send +233201234567 Hello")
    one.stop()


def test_unreachable_collector_of_traces_delays_no_stop_and_kills_nobody(open_folder: pathlib.Path) -> None:
    one = Up(pathlib.Path(tempfile.mkdtemp(dir=open_folder)), SMSGW_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    one.start()
    assert "SENT" in one.run(f"{BIN}/smsctl send +233201234567 Hello --wait")
    assert one.stop() < 8
    assert "did not drain" not in one.log.read_text()
    logs = [path for path in (one.folder / "var" / "log").glob("*.log") if path.stem.split("-")[0] in OURS]
    assert len(logs) >= 8
    for path in logs:
        for line in path.read_text().splitlines():
            assert {"event", "service", "pod"} <= json.loads(line).keys()


def test_printed_lines_work_and_data_survives(up: Up) -> None:
    printed = up.log.read_text()
    [grpcurl] = [line.strip() for line in printed.splitlines() if "grpcurl" in line]
    [smsctl] = [line.strip() for line in printed.splitlines() if "smsctl send" in line]
    folder = os.path.relpath(BIN, up.folder)
    answer = json.loads(up.run(grpcurl.replace(f"{folder}/", f"{BIN}/")))
    assert answer["state"] == "MESSAGE_STATE_ACCEPTED"
    assert "ACCEPTED" in up.run(smsctl.replace(f"{folder}/", f"{BIN}/"))
    message_id = answer["messageId"]
    status = f"{BIN}/smsctl status {message_id} --json"
    end = time.monotonic() + 60
    while (found := json.loads(up.run(status)))["state"] != "MESSAGE_STATE_SENT":
        assert time.monotonic() < end, found
        time.sleep(0.2)
    assert len(found["attempts"]) == 1
    assert found["provider_message_id"]
    assert up.stop() < 15
    assert up.left() == []
    up.start()
    assert json.loads(up.run(status))["state"] == "MESSAGE_STATE_SENT"
    assert up.stop() < 15
