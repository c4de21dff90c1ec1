"""A process whose clock is set wrong while it runs does no harm: it stops its work, says so, and goes on afterwards."""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Mapping

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rig import Rig, eventually, reasons, running, state

from messaging.runtime.config import read_settings
from messaging.runtime.providers_file import read_providers
from ops.fleet import watching

_SKEWED = """import os, time
real, file = time.time, {folder!r} + "/" + os.environ.get("SMSGW_POD", "none")
time.time = lambda: real() + (float(open(file).read()) if os.path.exists(file) else 0.0)
"""


class Clocks:
    """Sets the clocks of the processes of one system."""

    def __init__(self, rig: Rig, folder: pathlib.Path) -> None:
        self.rig = rig
        self._folder = folder

    def set(self, process: str, ahead_s: float) -> None:
        new = self._folder / "new"
        new.write_text(str(ahead_s))
        new.rename(self._folder / process)

    async def notices(self) -> tuple[str, ...]:
        environment = {key: value for key, value in self.rig.system.environment.items() if key.startswith("SMSGW_")}
        settings = read_settings(environment)
        providers = read_providers(settings.servers.providers_file, self.rig.system.environment)
        async with watching(settings, providers) as watch:
            return (await watch.snapshot()).notices


@pytest_asyncio.fixture(scope="module")
async def clocks(open_folder: pathlib.Path) -> AsyncIterator[Clocks]:
    folder = open_folder / "clocks"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SKEWED.format(folder=str(folder)))

    def own_settings(name: str, _seen: Mapping[str, str]) -> Mapping[str, str]:
        return {} if name == "simulator" else {"PYTHONPATH": str(folder)}

    async with running(open_folder / "skewed", providers=("p1", "p2"), own_settings=own_settings) as rig:
        yield Clocks(rig, folder)


async def test_pod_one_hour_ahead_ends_no_message_and_sends_them_when_its_clock_is_right(clocks: Clocks) -> None:
    rig, pod = clocks.rig, "dispatcher-p1-1"
    first = await rig.send(providers=["p1"])
    await rig.until(first.message_id, "SENT")
    clocks.set(pod, 3600)
    # Some meet a pod whose clock was set and not yet compared.
    ids = [(await rig.send(providers=["p1"])).message_id for _ in range(30)]

    async def shown() -> bool:
        return any(pod in one and "ahead of" in one for one in await clocks.notices())

    await eventually(shown)
    assert '"problem": "CLOCK"' in (rig.system.logs / f"{pod}.log").read_text()
    ids += [(await rig.send(providers=["p1"])).message_id for _ in range(5)]
    await asyncio.sleep(3)
    assert {state(await rig.status(one)) for one in ids} <= {"ACCEPTED", "SENT"}
    assert state(await rig.status(ids[-1])) == "ACCEPTED"
    clocks.set(pod, 0)
    for one in ids:
        await rig.until(one, "SENT")

    async def gone() -> bool:
        return not await clocks.notices()

    await eventually(gone)


async def test_gateway_with_a_wrong_clock_refuses_and_its_health_says_so(clocks: Clocks) -> None:
    rig = clocks.rig

    async def health() -> int:
        async with grpc.aio.insecure_channel(rig.system.gateways[0]) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            return int((await check(health_pb2.HealthCheckRequest(), timeout=2)).status)

    async def is_serving() -> bool:
        return await health() == health_pb2.HealthCheckResponse.SERVING

    async def is_not_serving() -> bool:
        return not await is_serving()

    accepted = await rig.send()
    clocks.set("gateway-1", -30)
    await eventually(is_not_serving)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await rig.send()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reasons(refused.value)["ErrorInfo"].reason == "CLOCK_WRONG"
    await rig.until(accepted.message_id, "SENT")  # it still answers questions
    clocks.set("gateway-1", 0)
    await eventually(is_serving)
    await rig.send()


async def test_duties_with_a_wrong_clock_stop_and_begin_again(clocks: Clocks) -> None:
    rig = clocks.rig
    for name in ("coordinator-1", "projector-1"):
        clocks.set(name, -3600)

    async def said() -> bool:
        logs = [(rig.system.logs / f"{name}.log").read_text() for name in ("coordinator-1", "projector-1")]
        return all('"problem": "CLOCK"' in log for log in logs)

    await eventually(said)
    sent = await rig.send()
    await rig.until(sent.message_id, "SENT")  # pods keep their shares
    for name in ("coordinator-1", "projector-1"):
        clocks.set(name, 0)

    async def again() -> bool:
        log = (rig.system.logs / "coordinator-1.log").read_text()
        return [json.loads(line)["event"] for line in log.splitlines()].count("coordinating") == 2

    await eventually(again)
