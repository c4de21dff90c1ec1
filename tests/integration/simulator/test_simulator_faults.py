"""The simulated provider's faults over real sockets."""

import asyncio
import contextlib
import json
import os
import resource
import socket

import httpx
import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.server import Simulator
from tests.integration.simulator.caller import TO, calling, message, post, stats


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
