"""A TCP proxy between a client and a server whose answers can be held back or cut off."""

import asyncio
import contextlib
import socket
import struct
from typing import Self
from urllib.parse import urlsplit


class FaultProxy:
    """Forwards bytes; `muted` drops the server's answers, `cut` resets every connection.

    `upstream` is the server's URL; the proxy's own has the same user and password.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.port or 0
        self._access = parts.netloc.rpartition("@")[0]
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.muted = False
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"nats://{self._access}@127.0.0.1:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        upstream_reader, upstream_writer = await self._reach()
        self._writers.add(upstream_writer)
        for source, target, answers in ((reader, upstream_writer, False), (upstream_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, target, answers=answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server; wait while it is down, as its clients would."""
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self._upstream)
            except OSError:
                await asyncio.sleep(0.02)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if answers and self.muted:
                    continue
                target.write(data)
                await target.drain()
        with contextlib.suppress(OSError):
            target.close()

    def cut(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError, AttributeError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()
