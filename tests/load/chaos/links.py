"""TCP links between one process and one server, which can be cut, stalled and made slow."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import Self

LOCALHOST = "127.0.0.1"


class Link:
    """Listens on its own port and forwards everything to and from port `upstream` of `host`."""

    def __init__(self, host: str, upstream: int) -> None:
        self.host = host
        self.upstream = upstream
        self.port = 0
        self.sides: set[_Side] = set()
        self.stalled = False
        self.delay_s = 0.0
        self._server: asyncio.Server | None = None

    async def open(self) -> Self:
        """Start listening."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _ClientSide(self), LOCALHOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for side in list(self.sides):
            side.reset()

    def stall(self, *, on: bool) -> None:
        """Hold back all data, or release it."""
        self.stalled = on
        for side in list(self.sides):
            side.flush()


class _Side(asyncio.Protocol):
    """One end of a connection: what it receives waits until the other end may send it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.peer: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.link.sides.add(self)

    def data_received(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        due = now + self.link.delay_s
        if self._waiting:
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, data))
        self.flush()

    def flush(self) -> None:
        """Forward the data that is due."""
        if self.link.stalled or self.peer is None or self.peer.transport is None:
            return
        loop = asyncio.get_running_loop()
        while self._waiting:
            due, data = self._waiting[0]
            if due > loop.time():
                loop.call_at(due, self.flush)
                return
            self._waiting.popleft()
            if not self.peer.transport.is_closing():
                self.peer.transport.write(data)
        if self._ended:
            self.link.sides.discard(self)
            self.peer.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self.flush()

    def reset(self) -> None:
        """Reset the connection."""
        if self.transport is None:
            return
        with contextlib.suppress(OSError, AttributeError):
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()
        self.link.sides.discard(self)


class _ClientSide(_Side):
    """The end to which our process has connected; it opens the end to the server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.create_task(self._open(), name="link")

    async def _open(self) -> None:
        far = _Side(self.link)
        far.peer = self
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, self.link.host, self.link.upstream)
        except OSError:
            self.reset()
            self.link.sides.discard(self)
            return
        self.peer = far
        self.flush()
        if self._ended and far.transport is not None:
            far.transport.close()
