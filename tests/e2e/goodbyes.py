"""A line between a gateway and its callers that understands one thing: when the gateway says that it will close it."""

import asyncio
import contextlib
from typing import Self

import attrs

_HEAD = 9
_GOAWAY = 7


@attrs.define
class Line:
    """One connection: whether the gateway has said GOAWAY, and whether it has closed it."""

    goodbye: bool = False
    closed: bool = False


class Goodbyes:
    """Listens at `address` in the gateway's place, and passes everything on."""

    def __init__(self, gateway: str) -> None:
        self._host, _, self._port = gateway.rpartition(":")
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: list[Line] = []
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line()
        self.connections.append(line)
        answers, asking = await asyncio.open_connection(self._host, int(self._port))
        for work in (self._ask(reader, asking), self._answer(answers, writer, line)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(target):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()

    async def _answer(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, line: Line) -> None:
        """Pass on frame by frame: each begins with three bytes of length and one of type."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(target):
            while True:
                head = await source.readexactly(_HEAD)
                body = await source.readexactly(int.from_bytes(head[:3], "big"))
                line.goodbye = line.goodbye or head[3] == _GOAWAY
                target.write(head + body)
                await target.drain()
        line.closed = True
