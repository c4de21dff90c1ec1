"""Whatever a process writes to its log is JSON, and an unreachable collector of traces does not delay its end."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

_NOISE = """
import asyncio, gc, logging, os, sys, threading, warnings
import grpc
from messaging.runtime.process import run_process

FORGED = '{"event": "forged", "level": "info"}'

class Unraisable:
    def __del__(self):
        raise ValueError("unraisable")

def fails():
    raise ValueError("in a thread")

async def lost():
    raise ValueError("lost task")

async def work(settings, providers):
    os.write(2, b"core \\x1b[31m" + FORGED.encode() + b"\\nsecond\\xff line\\n" + FORGED.encode())
    sys.stderr.write("\\nby a library\\n")
    warnings.warn("a warning")
    logging.getLogger("library").error("two\\nlines %s", FORGED)
    try:
        fails()
    except ValueError:
        logging.getLogger("library").exception("handled")
    logging.getLogger("library").error("wrong %d", "format")
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    Unraisable()
    asyncio.create_task(lost())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    grpc.aio.server().add_insecure_port("192.0.2.1:80") if {core} else None
    raise RuntimeError("uncaught")

sys.exit(run_process("gateway", work))
"""


@pytest.fixture
def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    providers = tmp_path / "providers.toml"
    providers.write_text('[[provider]]\nname = "p1"\nadapter = "simulated"\nurl = "http://127.0.0.1:1"\n')
    return {**os.environ, "SMSGW_PROVIDERS_FILE": str(providers), "SMSGW_POD": "g-1"}


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("core", [False, True], ids=["ours", "with grpc's core"])
def test_every_line_is_json_and_none_is_forged(environment: dict[str, str], *, core: bool) -> None:
    done = run(_NOISE.replace("{core}", str(core)), environment)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"event", "level", "timestamp", "service"} <= line.keys() for line in lines)
    assert not [line for line in lines if line["event"] == "forged"]
    told = done.stderr
    for what in (
        "core ",
        "second",
        "by a library",
        "a warning",
        "two",
        "handled",
        "wrong",
        "in a thread",
        "unraisable",
    ):
        assert what in told, what
    assert "lost task" in told
    assert "\x1b" not in told


def test_wrong_settings_are_one_json_line(environment: dict[str, str]) -> None:
    done = run("import sys; from messaging.runtime.process import run_process; sys.exit(run_process('gateway', None))",
               {**environment, "SMSGW_REPLICAS": "many"})  # fmt: skip
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert "SMSGW_REPLICAS" in json.loads(line)["detail"]


@pytest.fixture(params=["closed", "silent"])
def collector(request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


_TRACES = """
import asyncio, sys, time
from messaging.runtime import telemetry
from messaging.runtime.process import run_process

async def work(settings, providers):
    with telemetry.open_tracer(settings.process, "gateway") as tracer:
        for _ in range({spans}):
            with telemetry.span(tracer, "step", None):
                pass
        await asyncio.sleep({wait_s})
        print(time.time())

sys.exit(run_process("gateway", work))
"""


@pytest.mark.parametrize(("spans", "wait_s"), [(1, 0), (3000, 2.5)], ids=["at once", "while it tries again"])
def test_unreachable_collector_does_not_delay_the_end(
    environment: dict[str, str], collector: str, spans: int, wait_s: float
) -> None:
    program = _TRACES.replace("{spans}", str(spans)).replace("{wait_s}", str(wait_s))
    done = run(program, {**environment, "SMSGW_OTLP_ENDPOINT": collector})
    assert done.returncode == 0, done.stderr
    assert time.time() - float(done.stdout) < 5
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert "the last traces are lost: the collector does not answer" in [line["event"] for line in lines]
