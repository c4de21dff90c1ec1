"""The simulated providers as a whole: records, behaviour over HTTP, and the command."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.call_log import highest_window
from ops.simulator.server import Simulator
from tests.integration.simulator.caller import ROOT, TO, message, stats


async def test_each_provider_has_its_own_port_behaviour_and_record(sim: Simulator, client: httpx.AsyncClient) -> None:
    sim["p2"].behaviour = Behaviour(force="payment")
    first = await client.post(sim.url("p1") + "/v1/messages", json=message(), headers={"traceparent": "00-t-s-01"})
    second = await client.post(sim.url("p2") + "/v1/messages", json=message())
    assert (first.status_code, first.json()["id"]) == (200, "p1-0")
    assert (second.status_code, second.json()) == (402, {"error": {"code": "no_balance"}})
    assert sim["p1"].port != sim["p2"].port
    assert (await stats(client, sim.url("p1")))["taken"] == 1
    assert (await stats(client, sim.url("p2")))["taken"] == 0
    (line,) = (await client.get(sim.url("p1") + "/_requests?after=0")).text.splitlines()
    entry = json.loads(line)
    assert (entry["reference"], entry["to"], entry["traceparent"]) == ("m-1", TO, "00-t-s-01")
    assert abs(entry["at"] - entry["at_ns"] / 1e9) < 1e-6


async def test_a_limit_holds_over_real_arrivals(sim: Simulator, client: httpx.AsyncClient) -> None:
    sim["p1"].behaviour = Behaviour(limit_per_s=5, retry_after_s=1)
    answers = [await client.post(sim.url("p1") + "/v1/messages", json=message(f"m-{n}")) for n in range(12)]
    entries = sim["p1"].record.entries
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == sum(not entry.taken for entry in entries)
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert highest_window([entry.at_ns for entry in entries if entry.taken]) <= 5
    if entries[-1].at_ns - entries[0].at_ns < 1_000_000_000:  # always, but on a machine that stalls
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 7


async def test_the_key_is_demanded_where_one_is_set(client: httpx.AsyncClient) -> None:
    async with Simulator({"p1": Behaviour()}, api_key="k") as sim:
        url = sim.url("p1") + "/v1/messages"
        assert (await client.post(url, json=message())).json() == {"error": {"code": "unauthorized"}}
        good = await client.post(url, json=message(), headers={"Authorization": "Bearer k"})
        assert good.status_code == 200
        assert (await stats(client, sim.url("p1")))["by_status"] == {"200": 1, "401": 1}


async def test_a_message_sent_twice_is_a_duplicate_until_the_reset(sim: Simulator, client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await client.post(sim.url("p1") + "/v1/messages", json=message())
    assert (await stats(client, sim.url("p1")))["duplicates"] == 1
    await client.post(sim.url("p1") + "/_reset")
    after = await stats(client, sim.url("p1"))
    assert (after["requests"], after["duplicates"], after["by_status"], after["connections"]) == (0, 0, {}, 1)
    assert (await client.get(sim.url("p1") + "/v1/messages/m-1")).status_code == 404


async def test_the_behaviour_is_replaced_over_http(sim: Simulator, client: httpx.AsyncClient) -> None:
    url = sim.url("p1") + "/_behaviour"
    assert (await client.put(url, json={"force": "unavailable", "hang_s": 2})).status_code == 200
    assert (await client.get(url)).json() == Behaviour(force="unavailable", hang_s=2).to_json()
    wrong = await client.put(url, json={"forced": "ok"})
    assert (wrong.status_code, wrong.json()["error"]["problems"]) == (400, ["forced: unknown key"])
    assert (await client.post(sim.url("p1") + "/v1/messages", json=message())).status_code == 503


async def test_wait_for_gives_up_and_says_what_it_saw(sim: Simulator) -> None:
    with pytest.raises(
        TimeoutError, match=r"the condition did not hold within [0-9.]+ s; 0 sends, 0 of them in flight"
    ):
        await sim["p1"].wait_for(lambda record: len(record.entries) > 0, timeout_s=0.01)


async def test_when_one_port_is_taken_none_listens_on() -> None:
    async with Simulator({"p1": Behaviour()}) as first:
        taken = first["p1"].port
        second = Simulator({"a": Behaviour(), "b": Behaviour()}, ports={"b": taken})
        with pytest.raises(OSError, match="in use"):
            await second.__aenter__()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", second["a"].port)


def test_a_port_for_nobody_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="unknown providers: p9"):
        Simulator({"p1": Behaviour()}, ports={"p9": 1})


@contextlib.asynccontextmanager
async def command(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.simulator", *arguments,
        cwd=ROOT, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_runs_until_a_signal_and_waits_for_no_slow_answer(
    tmp_path: Path, client: httpx.AsyncClient, number: signal.Signals
) -> None:
    ports_file = tmp_path / "ports.json"
    arguments = ["--provider", "p1:0", "--provider", "p2:0", "--ports-file", str(ports_file), "--latency", "0.001"]
    async with command(*arguments, "--api-key-env", "SIM_KEY", SIM_KEY="k") as process:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode().split() for _ in range(2)]
        ports = json.loads(ports_file.read_text())
        assert lines == [[name, f"http://127.0.0.1:{ports[name]}"] for name in ("p1", "p2")]
        assert list(tmp_path.iterdir()) == [ports_file]
        url = lines[0][1]
        assert (await client.get(f"{url}/_behaviour")).json() == Behaviour(latency_s=0.001).to_json()
        await client.put(f"{url}/_behaviour", json={"force": "take_and_hang", "hang_s": 3600})
        async with asyncio.TaskGroup() as calls:
            hung = calls.create_task(_hung_call(client, url))
            while (await stats(client, url))["in_flight"] == 0:  # asks until the call has arrived
                pass
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), 40) == 0
            assert await hung == "RemoteProtocolError"
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def _hung_call(client: httpx.AsyncClient, url: str) -> str:
    try:
        await client.post(f"{url}/v1/messages", json=message(), headers={"Authorization": "Bearer k"})
    except httpx.TransportError as error:
        return type(error).__name__
    return "answered"


async def test_the_command_says_that_a_port_is_taken(sim: Simulator) -> None:
    async with command("--provider", f"p1:{sim['p1'].port}") as process:
        _, complaint = await process.communicate()
    assert process.returncode == 1
    assert b"cannot run: " in complaint
    assert b"Traceback" not in complaint
