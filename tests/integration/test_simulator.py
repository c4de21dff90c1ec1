"""The simulated provider over real sockets."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.record import highest_window
from ops.simulator.server import Provider, Simulator

ROOT = Path(__file__).parents[2]
TO = "+233241234567"


def post(reference: str = "m-1", *, to: str = TO, headers: str = "", text: str = "hello", segments: int = 1) -> bytes:
    message = {"reference": reference, "to": to, "from": "ACME", "text": text, "segments": segments}
    body = json.dumps(message).encode()
    return f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass
class Caller:
    """A raw HTTP/1.1 client that adds nothing and hides nothing."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def ask(self, raw: bytes) -> tuple[int, Any]:
        await self.send(raw)
        status, body = await self.answer()
        return status, json.loads(body)


@contextlib.asynccontextmanager
async def calling(provider: Provider) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator({"p1": Behaviour(), "p2": Behaviour()}) as simulator:
        yield simulator


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as http:
        yield http


def message(reference: str = "m-1", to: str = TO) -> dict[str, Any]:
    return {"reference": reference, "to": to, "from": "ACME", "text": "hello", "segments": 1}


async def stats(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    return dict((await client.get(f"{url}/_stats")).json())


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


@pytest.mark.parametrize(
    ("fault", "status", "body", "taken"),
    [
        ("ok", 200, {"id": "p1-0", "status": "accepted", "reference": "m-1"}, True),
        ("throttle", 429, {"error": {"code": "throttled"}}, False),
        ("bad_request", 400, {"error": {"code": "invalid_recipient"}}, False),
        ("unauthorized", 401, {"error": {"code": "unauthorized"}}, False),
        ("payment", 402, {"error": {"code": "no_balance"}}, False),
        ("server_error", 500, {"error": {"code": "server_error"}}, False),
        ("unavailable", 503, {"error": {"code": "unavailable"}}, False),
        ("take_and_500", 500, {"error": {"code": "server_error"}}, True),
        ("trickle", 200, {"id": "p1-0", "status": "accepted", "reference": "m-1"}, True),
        ("lie", 200, {"id": "p1-0", "status": "accepted", "reference": "m-1"}, False),
    ],
)
@pytest.mark.parametrize("latency_s", [0.0, 0.01])
async def test_an_answered_fault_says_and_takes_what_its_table_says(
    sim: Simulator, client: httpx.AsyncClient, fault: str, status: int, body: object, *, taken: bool, latency_s: float
) -> None:
    sim["p1"].behaviour = Behaviour(force=fault, retry_after_s=3, trickle_s=0.02, latency_s=latency_s)
    answer = await client.post(sim.url("p1") + "/v1/messages", json=message())
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers.get("retry-after") == ("3" if fault == "throttle" else None)
    await sim["p1"].wait_for(lambda record: record.entries[0].finished)
    look_up = await client.get(sim.url("p1") + "/v1/messages/m-1")
    assert look_up.status_code == (200 if taken else 404)
    seen = await stats(client, sim.url("p1"))
    assert (seen["requests"], seen["taken"], seen["by_status"]) == (1, int(taken), {str(status): 1})


@pytest.mark.parametrize("latency_s", [0.0, 0.01])
async def test_malformed_answers_200_with_what_is_no_json(sim: Simulator, latency_s: float) -> None:
    sim["p1"].behaviour = Behaviour(force="malformed", latency_s=latency_s)
    async with calling(sim["p1"]) as caller:
        await caller.send(post())
        status, body = await caller.answer()
        assert status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
        look_up = await caller.ask(b"GET /v1/messages/m-1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert look_up == (200, {"id": "p1-0", "status": "accepted", "reference": "m-1"})


@pytest.mark.parametrize(("fault", "taken"), [("hang", False), ("take_and_hang", True)])
async def test_a_hang_closes_without_an_answer_when_its_time_is_over(
    sim: Simulator, fault: str, *, taken: bool
) -> None:
    sim["p1"].behaviour = Behaviour(force=fault, hang_s=0.03)
    async with calling(sim["p1"]) as caller:
        await caller.send(post())
        assert await caller.reader.read() == b""
    (entry,) = sim["p1"].record.entries
    assert (entry.status, entry.finished, entry.taken) == (0, True, taken)
    assert (sim["p1"].record.taken("m-1") is entry) is taken


@pytest.mark.parametrize(("fault", "taken"), [("reset", False), ("take_and_reset", True)])
async def test_a_reset_resets_without_an_answer(sim: Simulator, fault: str, *, taken: bool) -> None:
    sim["p1"].behaviour = Behaviour(force=fault)
    async with calling(sim["p1"]) as caller:
        await caller.send(post())
        with pytest.raises(ConnectionResetError):
            await caller.reader.read()
    (entry,) = sim["p1"].record.entries
    assert (entry.status, entry.finished, entry.taken) == (0, True, taken)
    assert sim["p1"].stats()["connections"] == 0


async def test_a_trickle_comes_in_many_pieces(sim: Simulator) -> None:
    sim["p1"].behaviour = Behaviour(force="trickle", trickle_s=0.1)
    async with calling(sim["p1"]) as caller:
        await caller.send(post(headers="Connection: close\r\n"))
        pieces = []
        while piece := await caller.reader.read(1000):
            pieces.append(piece)
            assert len(pieces) > 1 or not sim["p1"].record.entries[0].finished
    assert len(pieces) > 10
    assert json.loads(b"".join(pieces).partition(b"\r\n\r\n")[2])["status"] == "accepted"
    assert sim["p1"].record.entries[0].status == 200


async def test_a_hang_ends_when_the_caller_goes(sim: Simulator) -> None:
    sim["p1"].behaviour = Behaviour(force="take_and_hang", hang_s=3600)
    async with calling(sim["p1"]) as caller:
        await caller.send(post())
        await sim["p1"].wait_for(lambda record: len(record.entries) == 1)
        assert (sim["p1"].stats()["in_flight"], sim["p1"].stats()["by_status"]) == (1, {})
    await sim["p1"].wait_for(lambda record: record.entries[0].finished)
    assert (sim["p1"].stats()["in_flight"], sim["p1"].stats()["by_status"]) == (0, {"0": 1})
    assert sim["p1"].stats()["connections"] == 0


async def test_a_caller_that_resets_during_the_latency_leaves_nothing_behind(sim: Simulator) -> None:
    sim["p1"].behaviour = Behaviour(latency_s=3600)
    reader_end = socket.create_connection(("127.0.0.1", sim["p1"].port))
    reader_end.sendall(post())
    await sim["p1"].wait_for(lambda record: len(record.entries) == 1)
    reader_end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    reader_end.close()
    await sim["p1"].wait_for(lambda record: record.entries[0].finished)
    assert (sim["p1"].record.entries[0].status, sim["p1"].stats()["connections"]) == (0, 0)


async def test_a_slow_answer_holds_nobody_else_up(sim: Simulator, client: httpx.AsyncClient) -> None:
    sim["p1"].behaviour = Behaviour(by_suffix={"99": "hang"}, hang_s=3600)
    async with calling(sim["p1"]) as slow:
        await slow.send(post("slow", to="+233000000099"))
        await sim["p1"].wait_for(lambda record: len(record.entries) == 1)
        answers = [await client.post(sim.url("p1") + "/v1/messages", json=message(f"m-{n}")) for n in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5
        assert not sim["p1"].record.entries[0].finished


async def test_a_connection_is_kept_for_the_next_request(sim: Simulator) -> None:
    async with calling(sim["p1"]) as caller:
        for number in range(5):
            status, body = await caller.ask(post(f"m-{number}"))
            assert (status, body["reference"]) == (200, f"m-{number}")
        assert sim["p1"].stats()["connections"] == 1


async def test_pipelined_requests_are_answered_in_order_though_their_latencies_differ(sim: Simulator) -> None:
    sim["p1"].behaviour = Behaviour(latency_jitter_s=0.03, by_suffix={"77": "trickle"}, trickle_s=0.02, seed=5)
    references = [f"m-{number}" for number in range(20)]
    raw = b"".join(post(name, to="+233000000077" if name == "m-3" else TO) for name in references)
    async with calling(sim["p1"]) as caller:
        await caller.send(raw[:1000])
        await sim["p1"].wait_for(lambda record: len(record.entries) > 2)
        await caller.send(raw[1000:])
        answered = [json.loads((await caller.answer())[1])["reference"] for _ in references]
    assert answered == references
    assert [entry.reference for entry in sim["p1"].record.entries] == references


async def test_nothing_is_read_behind_a_request_that_ends_the_connection(sim: Simulator) -> None:
    sim["p1"].behaviour = Behaviour(by_suffix={"9": "reset"})
    async with calling(sim["p1"]) as caller:
        await caller.send(post("a") + post("b", to="+9") + post("c"))
        with contextlib.suppress(ConnectionResetError):
            await caller.reader.read()
    assert [entry.reference for entry in sim["p1"].record.entries] == ["a", "b"]


@pytest.mark.parametrize("latency_s", [0.0, 0.01])
async def test_connection_close_is_honoured(sim: Simulator, latency_s: float) -> None:
    sim["p1"].behaviour = Behaviour(latency_s=latency_s)
    async with calling(sim["p1"]) as caller:
        status, _ = await caller.ask(post(headers="Connection: close\r\n"))
        assert status == 200
        assert await caller.reader.read() == b""


async def test_a_caller_that_has_only_stopped_writing_still_gets_its_answers(sim: Simulator) -> None:
    sim["p1"].behaviour = Behaviour(latency_s=0.02)
    async with calling(sim["p1"]) as caller:
        await caller.send(post("a") + post("b"))
        caller.writer.write_eof()
        assert [(await caller.answer())[0] for _ in range(2)] == [200, 200]
        assert await caller.reader.read() == b""


@pytest.mark.parametrize("latency_s", [0.0, 0.02])
async def test_a_malformed_request_gets_400_in_its_turn_and_the_end(sim: Simulator, latency_s: float) -> None:
    sim["p1"].behaviour = Behaviour(latency_s=latency_s)
    async with calling(sim["p1"]) as caller:
        await caller.send(post() + b"nonsense\r\n\r\n" + bytes(200_000))
        assert (await caller.answer())[0] == 200
        status, body = await caller.answer()
        assert (status, json.loads(body)["error"]["code"]) == (400, "malformed_request")
        assert await caller.reader.read() == b""
    assert sim["p1"].stats()["requests"] == 1


async def test_a_large_body_arrives_whole_and_a_larger_one_is_refused(sim: Simulator) -> None:
    async with calling(sim["p1"]) as caller:
        assert (await caller.ask(post(text="x" * 1_000_000)))[0] == 200
        assert (await caller.ask(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n"))[0] == 413


async def test_a_caller_in_the_midst_of_a_body_that_is_too_large_still_hears_why(sim: Simulator) -> None:
    async with calling(sim["p1"]) as caller:
        await caller.send(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 33554432\r\n\r\n" + bytes(33_554_432))
        assert (await caller.answer())[0] == 413
        assert await caller.reader.read() == b""


async def test_a_caller_that_resets_before_its_pipeline_is_read_leaves_nothing_behind(sim: Simulator) -> None:
    with socket.create_connection(("127.0.0.1", sim["p1"].port)) as hasty:
        hasty.sendall(post("a") + post("b") + post("c"))
        hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    await sim["p1"].wait_for(lambda record: record.entries != [] and all(entry.finished for entry in record.entries))
    assert sim["p1"].stats()["by_status"] == {"0": 1}
    assert (sim["p1"].stats()["in_flight"], sim["p1"].stats()["connections"]) == (0, 0)


async def test_a_large_answer_leaves_whole_though_the_caller_reads_late(sim: Simulator) -> None:
    for number in range(30_000):
        sim["p1"].record.append(number, "m" * 100, TO, 1, taken=False, traceparent="")
    async with calling(sim["p1"]) as caller:
        await caller.send(b"GET /_requests HTTP/1.1\r\n\r\n" + post())
        await sim["p1"].wait_for(lambda record: len(record.entries) > 30_000)
        status, body = await caller.answer()
        assert (status, len(body.splitlines())) == (200, 30_000)
        assert (await caller.answer())[0] == 200


async def test_the_arrival_time_is_the_kernels_though_the_loop_was_busy(sim: Simulator) -> None:
    async with calling(sim["p1"]) as caller:
        await caller.ask(post("first"))
        sent_ns = time.time_ns()
        caller.writer.write(post("second"))  # on an empty buffer this goes to the kernel at once
        time.sleep(0.05)  # the loop cannot read for that long
        released_ns = time.time_ns()
        await caller.answer()
    entry = sim["p1"].record.entries[1]
    assert sent_ns <= entry.at_ns < released_ns


async def test_even_bytes_from_before_the_accept_have_their_arrival_time(sim: Simulator) -> None:
    async with calling(sim["p1"]) as caller:
        await caller.ask(post("first"))
    with socket.create_connection(("127.0.0.1", sim["p1"].port)) as early:
        sent_ns = time.time_ns()
        early.sendall(post("second"))
        time.sleep(0.05)
        released_ns = time.time_ns()
        await sim["p1"].wait_for(lambda record: len(record.entries) == 2)
    assert sent_ns <= sim["p1"].record.entries[1].at_ns < released_ns


async def test_the_arrival_time_is_that_of_the_first_byte(sim: Simulator) -> None:
    raw = post("cut")
    async with calling(sim["p1"]) as caller, calling(sim["p1"]) as witness:
        await witness.ask(post("before"))
        sent_ns = time.time_ns()
        await caller.send(raw[:1])
        await witness.ask(post("between"))  # was answered later than that one byte was read
        between_ns = time.time_ns()
        await caller.send(raw[1:])
        assert (await caller.answer())[0] == 200
    (entry,) = [entry for entry in sim["p1"].record.entries if entry.reference == "cut"]
    assert sent_ns <= entry.at_ns <= between_ns


async def test_accepted_sockets_send_without_delay(sim: Simulator) -> None:
    async with calling(sim["p1"]) as caller:
        await caller.ask(post())
        (connection,) = sim["p1"]._connections
        assert connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


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


async def test_an_outage_refuses_connections_and_ends_on_the_same_port(sim: Simulator) -> None:
    provider = sim["p1"]
    url = provider.url
    provider.behaviour = Behaviour(by_suffix={"99": "take_and_hang"}, hang_s=3600)
    async with calling(provider) as idle, calling(provider) as hung:
        await idle.ask(post("a"))
        await hung.send(post("b", to="+233000000099"))
        await provider.wait_for(lambda record: len(record.entries) == 2)
        await provider.stop()
        await provider.stop()
        assert await idle.reader.read() == b""
        assert await hung.reader.read() == b""
    assert (provider.stats()["connections"], provider.stats()["in_flight"]) == (0, 0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", provider.port)
    await provider.start()
    await provider.start()
    async with calling(provider) as caller:
        assert (await caller.ask(post("c")))[0] == 200
    assert provider.url == url
    assert provider.stats()["by_status"] == {"0": 1, "200": 2}


async def test_many_connections_are_held_at_once(sim: Simulator) -> None:
    async with contextlib.AsyncExitStack() as open_calls:
        callers = [await open_calls.enter_async_context(calling(sim["p1"])) for _ in range(300)]
        sim["p1"].behaviour = Behaviour(latency_s=0.01)
        answers = await asyncio.gather(*[caller.ask(post(f"m-{n}")) for n, caller in enumerate(callers)])
        assert [body["reference"] for _, body in answers] == [f"m-{n}" for n in range(300)]
        assert sim["p1"].stats()["connections"] == 300


async def test_a_process_out_of_files_accepts_again_when_it_can(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as late:
        late.setblocking(False)
        async with calling(sim["p1"]) as witness:
            await witness.ask(post("before"))
            lowest_free = os.dup(0)
            os.close(lowest_free)
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
                await loop.sock_connect(late, ("127.0.0.1", sim["p1"].port))
                await loop.sock_sendall(late, post("late"))
                await witness.ask(post("meanwhile"))
                assert sim["p1"].stats()["connections"] == 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await sim["p1"].wait_for(lambda record: len(record.entries) == 3)
    assert [entry.reference for entry in sim["p1"].record.entries] == ["before", "meanwhile", "late"]
    assert caplog.records == []  # no callback of the loop has raised


async def test_a_file_number_is_free_for_the_next_connection_when_a_blocked_answer_breaks_off(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30_000):
        sim["p1"].record.append(number, "m" * 100, TO, 1, taken=False, traceparent="")
    blocked = socket.create_connection(("127.0.0.1", sim["p1"].port))
    blocked.sendall(b"GET /_requests HTTP/1.1\r\n\r\n" + post())
    await sim["p1"].wait_for(lambda record: len(record.entries) > 30_000)
    (connection,) = sim["p1"]._connections
    async with calling(sim["p2"]) as witness:
        await witness.ask(post())  # by now the rest of the answer waits for room
    blocked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    blocked.close()
    # The loop sees both ends in one turn, so that the new connection gets the number of the broken one.
    with socket.create_connection(("127.0.0.1", sim["p1"].port)) as following:
        following.sendall(post("following"))
        await sim["p1"].wait_for(lambda record: record.entries[-1].reference == "following")
    assert connection not in sim["p1"]._connections
    assert caplog.records == []


async def test_wait_for_gives_up_and_says_what_it_saw(sim: Simulator) -> None:
    with pytest.raises(TimeoutError, match=r"not so within [0-9.]+ s; 0 sends, 0 of them in flight"):
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
    with pytest.raises(ValueError, match="not there: p9"):
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
            assert await asyncio.wait_for(process.wait(), 10) == 0
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
