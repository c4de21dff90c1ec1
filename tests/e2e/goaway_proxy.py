"""A proxy between a gateway and its callers that notices when the gateway sends GOAWAY."""

import asyncio
import contextlib
from typing import Self

import attrs

_HEAD = 9
_GOAWAY = 7


@attrs.define
class ProxiedConnection:
    """One connection: whether the gateway has sent GOAWAY, and whether it has closed the connection."""

    goaway: bool = False
    closed: bool = False


class GoawayProxy:
    """Listens at `address` and forwards everything to and from the gateway."""

    def __init__(self, gateway: str) -> None:
        self._host, _, self._port = gateway.rpartition(":")
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: list[ProxiedConnection] = []
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
        connection = ProxiedConnection()
        self.connections.append(connection)
        answers, requests = await asyncio.open_connection(self._host, int(self._port))
        for work in (self._forward_requests(reader, requests), self._forward_answers(answers, writer, connection)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward_requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(target):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()

    async def _forward_answers(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, connection: ProxiedConnection
    ) -> None:
        """Forward frame by frame: each frame starts with three bytes of length and one of type."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(target):
            while True:
                head = await source.readexactly(_HEAD)
                body = await source.readexactly(int.from_bytes(head[:3], "big"))
                connection.goaway = connection.goaway or head[3] == _GOAWAY
                target.write(head + body)
                await target.drain()
        connection.closed = True
