"""A caller of the simulated provider who writes bytes himself."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ops.simulator.server import SimulatedProvider

ROOT = Path(__file__).parents[3]


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
async def calling(provider: SimulatedProvider) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def message(reference: str = "m-1", to: str = TO) -> dict[str, Any]:
    return {"reference": reference, "to": to, "from": "ACME", "text": "hello", "segments": 1}


async def stats(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    return dict((await client.get(f"{url}/_stats")).json())
