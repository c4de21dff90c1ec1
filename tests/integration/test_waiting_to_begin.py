"""Processes that cannot begin wait, and say why; what they need may come later."""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ops.embedded import NatsServer
from ops.embedded.child import free_port

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PROVIDERS = '[[provider]]\nname = "p1"\nadapter = "simulated"\nurl = "http://127.0.0.1:9"\n'
PROCESSES = {
    "gateway": ("gateway_grpc",),
    "coordinator": ("dispatcher", "coordinate"),
    "dispatcher": ("dispatcher", "work", "--provider", "p1"),
    "projector": ("dispatcher", "project"),
}
_SKEWED = "import time\nreal = time.time\ntime.time = lambda: real() + float(open({file!r}).read())\n"
Begin = Callable[..., "Running"]


class Running:
    """One process, its log, and where it answers health checks."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: pathlib.Path, where: str) -> None:
        self.process, self._log, self._where = process, log, where

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    async def until_said(self, **parts: str) -> None:
        async with asyncio.timeout(30):
            while not any(all(str(part) in str(line.get(key)) for key, part in parts.items()) for line in self.lines):
                assert self.process.poll() is None, self._log.read_text()
                await asyncio.sleep(0.1)

    async def until_health(self, service: str, wanted: int) -> None:
        async with asyncio.timeout(30):
            while await self._health(service) != wanted:
                assert self.process.poll() is None, self._log.read_text()
                await asyncio.sleep(0.1)

    async def _health(self, service: str) -> int | None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            async with grpc.aio.insecure_channel(self._where) as channel:
                check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
                answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=2)
                return int(answer.status)
        return None


@pytest.fixture
def begin(tmp_path: pathlib.Path) -> Iterator[Begin]:
    processes: list[subprocess.Popen[bytes]] = []
    (tmp_path / "providers.toml").write_text(PROVIDERS)

    def start(name: str, nats_url: str, **settings: str) -> Running:
        where, log = f"127.0.0.1:{free_port()}", tmp_path / f"{name}.log"
        environment = {
            **os.environ,
            "SMSGW_NATS_URL": nats_url,
            "SMSGW_PROVIDERS_FILE": str(tmp_path / "providers.toml"),
            "SMSGW_LISTEN" if name == "gateway" else "SMSGW_HEALTH_LISTEN": where,
            "SMSGW_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
            **settings,
        }
        with log.open("wb") as out:
            words = [sys.executable, "-m", *PROCESSES[name]]
            process = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
        processes.append(process)
        return Running(process, log, where)

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", PROCESSES)
async def test_process_waits_for_the_stream_and_then_begins(name: str, begin: Begin, tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    server.stop()
    running = begin(name, server.url)
    await running.until_said(event="this process cannot work", problem="NO_STREAM")
    await running.until_health("live", SERVING)
    await running.until_health("", NOT_SERVING)
    server.start()
    try:
        await running.until_said(event="the problem has ended", problem="NO_STREAM")
        if name != "dispatcher":  # without a coordinator it has no share, which its health says soon
            await running.until_health("", SERVING)
    finally:
        server.stop()


@pytest.mark.parametrize("name", PROCESSES)
def test_process_that_waits_for_the_stream_stops_when_it_is_told_to(name: str, begin: Begin) -> None:
    running = begin(name, f"nats://127.0.0.1:{free_port()}")
    asyncio.run(running.until_said(event="this process cannot work"))
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0


@pytest.mark.parametrize("name", PROCESSES)
async def test_process_with_a_wrong_clock_waits_for_the_right_time(
    name: str, begin: Begin, tmp_path: pathlib.Path, nats_server: NatsServer
) -> None:
    skew = tmp_path / "skew"
    skew.write_text("3600")
    (tmp_path / "sitecustomize.py").write_text(_SKEWED.format(file=str(skew)))
    running = begin(name, nats_server.url, PYTHONPATH=str(tmp_path))
    await running.until_said(event="this process cannot work", problem="CLOCK", detail="3600.0 s ahead")
    await running.until_health("live", SERVING)
    await running.until_health("", NOT_SERVING)
    _replace(skew, "0")
    await running.until_said(event="the problem has ended", problem="CLOCK")


def _replace(file: pathlib.Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


async def test_dispatcher_without_a_coordinator_says_so_in_log_and_health(
    begin: Begin, nats_server: NatsServer
) -> None:
    running = begin("dispatcher", nats_server.url)
    await running.until_said(event="this process cannot work", problem="NO_SHARE", detail="no coordinator leads")
    await running.until_health("", NOT_SERVING)
    begin("coordinator", nats_server.url)
    await running.until_said(event="the problem has ended", problem="NO_SHARE")
    await running.until_health("", SERVING)
