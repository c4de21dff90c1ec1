"""Simulated providers, each on its own port, in one process and one event loop."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from ops.simulator.behaviour import Behaviour
from ops.simulator.call_log import CallLog
from ops.simulator.connection import SO_TIMESTAMPNS, PeerConnection
from ops.simulator.service import Service

BACKLOG = 1024
ACCEPTS_A_TURN = 256
OUT_OF_FILES_PAUSE_S = 0.1


class SimulatedProvider:
    """One simulated provider; `stop` and `start` simulate an outage on the same port."""

    def __init__(self, name: str, behaviour: Behaviour, *, host: str, port: int, api_key: str | None) -> None:
        self.name = name
        self._changed = asyncio.Event()
        self._service = Service(name, behaviour, api_key, self._changed.set)
        self._host = host
        self._port = port
        self._listener: socket.socket | None = None
        self._connections: set[PeerConnection] = set()

    @property
    def port(self) -> int:
        """The port; 0 before the first `start` if a free one was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://{self._host}:{self._port}"

    @property
    def record(self) -> CallLog:
        """What was received; always the same object."""
        return self._service.record

    @property
    def behaviour(self) -> Behaviour:
        """How the next sends are handled; may be set at any time."""
        return self._service.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._service.behaviour = behaviour

    def stats(self) -> dict[str, object]:
        """Return the statistics, as `GET /_stats` does."""
        return self._service.stats()

    def reset(self) -> None:
        """Clear the log and the statistics, as `POST /_reset` does."""
        self._service.reset()

    async def start(self) -> None:
        """Start to listen; raises OSError when the port is taken. Does nothing when it already listens."""
        if self._listener is not None:
            return
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit both, so that even bytes from before accept() have an arrival time.
            listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setblocking(False)
            listener.bind((self._host, self._port))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        self._port = int(listener.getsockname()[1])
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._acceptable, listener)

    async def stop(self) -> None:
        """Refuse connections and close the open ones; keeps log and behaviour. Does nothing when stopped."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        writers = [connection.writer_task for connection in self._connections if connection.writer_task is not None]
        for connection in list(self._connections):
            connection.close()
        if writers:
            await asyncio.wait(writers)

    async def wait_for(self, holds: Callable[[CallLog], bool], timeout_s: float = 5.0) -> None:
        """Return as soon as `holds` is true of the log; raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(self.record):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as exc:
            seen = f"{len(self.record.entries)} sends, {self._service.in_flight} of them in flight"
            raise TimeoutError(f"{self.name}: the condition did not hold within {timeout_s} s; {seen}") from exc

    def _acceptable(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    self._pause_accepting(listener)
                    return
                continue  # the peer has closed the connection
            sock.setblocking(False)
            self._connections.add(PeerConnection(sock, self._service, self._forget))
            self._service.connections = len(self._connections)

    def _pause_accepting(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def resume() -> None:
            if self._listener is listener:
                loop.add_reader(listener, self._acceptable, listener)

        loop.call_later(OUT_OF_FILES_PAUSE_S, resume)

    def _forget(self, connection: PeerConnection) -> None:
        self._connections.discard(connection)
        self._service.connections = len(self._connections)


class Simulator:
    """Several simulated providers by name, which listen inside the context.

    `ports` sets fixed ports for some of them; the others get free ones. With `api_key`, every provider requires it.
    """

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour],
        *,
        ports: Mapping[str, int] | None = None,
        api_key: str | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        fixed = ports or {}
        if stray := sorted(set(fixed) - set(behaviours)):
            raise ValueError(f"ports for unknown providers: {', '.join(stray)}")
        self.providers: Mapping[str, SimulatedProvider] = {
            name: SimulatedProvider(name, behaviour, host=host, port=fixed.get(name, 0), api_key=api_key)
            for name, behaviour in behaviours.items()
        }
        self._exits = contextlib.AsyncExitStack()

    def __getitem__(self, name: str) -> SimulatedProvider:
        return self.providers[name]

    def url(self, name: str) -> str:
        """Return the base URL of a provider, without a trailing slash."""
        return self.providers[name].url

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as exits:
            for provider in self.providers.values():
                await provider.start()
                exits.push_async_callback(provider.stop)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()
