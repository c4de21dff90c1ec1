"""Requests to the server: each gets its own answer, or fails clearly."""

import asyncio
import pathlib
import time

import pytest
from proxy import FaultProxy

from messaging.errors import StreamDown
from messaging.stream.connection import NatsConnection, open_connection
from ops.embedded import NatsServer


async def answering(connection: NatsConnection, subject: str) -> None:
    """Answer every request on `subject` with its own bytes; the first one is answered last."""

    async def answer(msg) -> None:
        if msg.data == b"0":
            await asyncio.sleep(0.1)
        await connection.client.publish(msg.reply, msg.data)

    for _ in range(2):  # every answer is sent twice
        await connection.client.subscribe(subject, cb=answer)
    await connection.client.flush()


async def test_answers_reach_their_requests_in_any_order_and_when_repeated(nats_server: NatsServer) -> None:
    async with open_connection(nats_server.url, "a") as one, open_connection(nats_server.url, "b") as other:
        await answering(other, "ask.echo")
        questions = [str(n).encode() for n in range(300)]
        answers = await asyncio.gather(*(one.requests.request("ask.echo", data, None, 3) for data in questions))
        assert [msg.data for msg in answers] == questions
        assert not one.requests._waiting


async def test_request_without_a_listener_fails_at_once(nats_server: NatsServer) -> None:
    async with open_connection(nats_server.url, "a") as one:
        began = time.monotonic()
        with pytest.raises(StreamDown, match=r"no responders on ask\.nobody"):
            await one.requests.request("ask.nobody", b"", None, 30)
        assert time.monotonic() - began < 15


async def test_request_without_an_answer_ends_at_its_time_out(nats_server: NatsServer) -> None:
    async with open_connection(nats_server.url, "a") as one:
        await one.client.subscribe("ask.silent")
        patient = asyncio.create_task(one.requests.request("ask.silent", b"", None, 30))
        for timeout_s in (0.01, 0.3):
            began = time.monotonic()
            with pytest.raises(StreamDown, match="no answer in time"):
                await one.requests.request("ask.silent", b"", None, timeout_s)
            assert timeout_s <= time.monotonic() - began < timeout_s + 10
        assert not patient.done()
        patient.cancel()
        await asyncio.wait({patient})
        assert (patient.cancelled(), one.requests._waiting) == (True, {})


async def test_requests_in_flight_fail_when_the_connection_breaks(nats_server: NatsServer) -> None:
    async with FaultProxy(nats_server.url) as proxy, open_connection(proxy.url, "x") as c:
        for _ in range(3):
            proxy.muted = True
            asking = asyncio.create_task(c.requests.request("$JS.API.INFO", b"", None, 60))
            await asyncio.sleep(0.1)
            proxy.muted = False
            proxy.cut()
            began = time.monotonic()
            with pytest.raises(StreamDown):
                await asking
            assert time.monotonic() - began < 15
            end = time.monotonic() + 40
            while not c.connected:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            assert (await c.requests.request("$JS.API.INFO", b"", None, 5)).data.startswith(b"{")


async def test_request_while_disconnected_fails_at_once_and_is_never_sent(tmp_path: pathlib.Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    async with open_connection(server.url, "x") as c:
        server.kill()
        while c.connected:
            await asyncio.sleep(0.01)
        with pytest.raises(StreamDown, match="OutboundBufferLimitError"):
            await c.requests.request("ask.later", b"stored?", None, 60)
        assert not c.requests._waiting
        assert b"stored?" not in b"".join(c.client._pending)
    server.stop()


async def test_closing_ends_the_requests_in_flight(nats_server: NatsServer) -> None:
    async with open_connection(nats_server.url, "a") as one:
        await one.client.subscribe("ask.silent.too")
        asking = asyncio.create_task(one.requests.request("ask.silent.too", b"", None, 60))
        await asyncio.sleep(0.05)
    with pytest.raises(StreamDown, match="connection lost"):
        await asyncio.wait_for(asking, 20)
