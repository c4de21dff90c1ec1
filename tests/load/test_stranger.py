"""The stranger does what its mood says, and writes down when the bytes of a request really arrived."""

import asyncio
import contextlib
import io
import json
import socket
import struct
import time
from collections.abc import AsyncIterator

import attrs
import pytest_asyncio

from ops.embedded.child import LOCALHOST, free_port
from tests.load.chaos.stranger.moods import KEPT, MISSING_AFTER_S, MOODS, Mood
from tests.load.chaos.stranger.server import Stranger

WITHIN_S = 5.0


@attrs.define
class Client:
    """Talks to a stranger in raw HTTP."""

    stranger: Stranger
    port: int
    record: io.StringIO

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOCALHOST, self.port)

    async def send(self, tag: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.open()
        body = json.dumps({"tag": tag}).encode()
        writer.write(b"POST /out HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        return reader, writer

    async def look_up(self, tag: str) -> int:
        reader, writer = await self.open()
        writer.write(f"GET /tags/{tag} HTTP/1.1\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    async def taken(self, tag: str) -> dict[str, int]:
        async with asyncio.timeout(WITHIN_S):
            while True:
                for line in map(json.loads, self.record.getvalue().splitlines()):
                    if line["tag"] == tag and line["taken_ns"]:
                        return dict(line)
                await asyncio.sleep(0)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close as the product does after a time-out."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def until_closed(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    record, port = io.StringIO(), free_port()
    with contextlib.closing(Stranger("s1", LOCALHOST, port, record)) as stranger:
        yield Client(stranger, port, record)


async def test_message_is_taken_after_its_client_has_gone(client: Client) -> None:
    client.stranger.turn(Mood(hold_s=0.05))
    _, writer = await client.send("a")
    writer.transport.abort()
    assert (await client.taken("a"))["taken_ns"] > 0


async def test_look_up_denies_what_is_at_work_and_finds_it_later(client: Client) -> None:
    client.stranger.turn(Mood(hold_s=0.1))
    _, writer = await client.send("a")
    assert await client.look_up("a") == 404
    await client.taken("a")
    assert await client.look_up("a") == 200
    writer.close()


async def test_look_up_hides_what_was_taken_for_a_while(client: Client) -> None:
    client.stranger.turn(Mood(hide_s=60))
    _, writer = await client.send("a")
    await client.taken("a")
    assert await client.look_up("a") == 404
    writer.close()


async def test_unread_request_has_the_time_of_its_bytes_and_is_taken_although_the_client_reset(client: Client) -> None:
    client.stranger.turn(MOODS["unread"])
    _, writer = await client.send("a")
    sent_ns = time.time_ns()
    reset(writer)
    await asyncio.wait_for(until_closed(writer), WITHIN_S)
    client.stranger.turn(MOODS["well"])
    turned_ns = time.time_ns()
    line = await client.taken("a")
    assert line["at_ns"] < turned_ns <= line["taken_ns"]
    assert abs(line["at_ns"] - sent_ns) < WITHIN_S * 1e9


async def test_answer_has_a_ticket_and_one_connection_serves_many(client: Client) -> None:
    reader, writer = await client.send("a")
    assert (await reader.readline()).startswith(b"HTTP/1.1 202")
    rest = await reader.readuntil(b"}")
    assert json.loads(rest.partition(b"\r\n\r\n")[2]) == {"ticket": "s1-1", "verdict": "on its way"}
    writer.write(b"GET /tags/a HTTP/1.1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


def test_moods_keep_the_word_of_the_providers_file_but_one() -> None:
    kept = {name for name, mood in MOODS.items() if mood.hold_s + mood.answer_s + mood.hide_s < MISSING_AFTER_S}
    assert kept == {*KEPT, "well"}
    assert MOODS["beyond"].hold_s > MISSING_AFTER_S
