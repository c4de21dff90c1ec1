"""A provider's HTTP side that does exactly what it is told, byte by byte, and remembers every request."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import attrs


@attrs.define
class Seen:
    """One request as it arrived; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query, True).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode(), True).items()}


@attrs.frozen
class Reply:
    """What the server does with one request.

    `gap_s` lies between any two bytes, `delay_s` before the first; `then` is keep, close, reset or hang. Without `raw`
    an answer is built from status, headers and document.
    """

    status: int = 200
    document: Any = None
    headers: Mapping[str, str] = attrs.Factory(dict)
    body: bytes | None = None
    raw: bytes | None = None
    delay_s: float = 0.0
    gap_s: float = 0.0
    then: str = "keep"

    @property
    def content(self) -> bytes:
        return self.body if self.body is not None else json.dumps(self.document).encode()

    def encode(self) -> bytes:
        if self.raw is not None:
            return self.raw
        headers = {"Content-Length": len(self.content), "Content-Type": "application/json", **self.headers}
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.content


NOTHING = Reply(raw=b"", then="hang")
RESET = Reply(raw=b"", then="reset")
CLOSE = Reply(raw=b"", then="close")


class ProviderServer:
    """Listens on a free port of 127.0.0.1 while entered; `answer` is asked for each request."""

    def __init__(self) -> None:
        self.answer: Callable[[Seen], Reply] = lambda _seen: Reply()
        self.seen: list[Seen] = []
        self.received = 0
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def first_on_its_connection(self, seen: Seen) -> bool:
        """Whether no request came before this one on its connection."""
        return [one for one in self.seen if one.connection == seen.connection] == [seen]

    def drop_connections(self) -> None:
        """Close every connection that is kept alive."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        self.connections += 1
        try:
            while await self._turn(reader, writer, self.connections):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the caller has hung up, or the test has ended
        finally:
            writer.close()
            self._writers.discard(writer)

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> bool:
        first = await reader.readexactly(1)
        self.received += 1
        head = first + await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines if one)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.received += len(head) + len(body) - 1
        seen = Seen(method, target, headers, body, connection)
        self.seen.append(seen)
        return await self._reply(self.answer(seen), writer)

    async def _reply(self, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(reply.delay_s)
        data = reply.encode()
        for part in [data[i : i + 1] for i in range(len(data))] if reply.gap_s else [data]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(reply.gap_s)
        if reply.then == "hang":
            await asyncio.Event().wait()
        if reply.then == "reset":
            writer.transport.abort()
        return reply.then == "keep"
