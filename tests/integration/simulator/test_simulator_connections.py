"""Connections of the simulated provider: pipelines, ends, sizes, arrival times."""

import contextlib
import json
import socket
import time

import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.server import Simulator
from tests.integration.simulator.caller import TO, calling, post


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
