"""What the gate before each write takes for granted of aiohttp's tracing hooks: each test here names one such rule.

aiohttp's manual says of none of it that it stays, so pyproject.toml bounds the version. Before the bound is raised,
these tests have to pass with the new one.
"""

import asyncio
import contextlib
import contextvars
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import attrs
import pytest

from tests.contract.provider_server import CLOSE, ProviderServer, Reply

HEADERS, CHUNK = "headers", "chunk"
BODY = pytest.mark.parametrize("body", [None, b"text"], ids=["no body", "body"])


def last_hook(body: bytes | None) -> str:
    """The last hook before the write, at which the gate stands."""
    return CHUNK if body else HEADERS


@attrs.define
class Hooked:
    """A session on a server; `story` is which hooks ran, and `at` is called in each."""

    server: ProviderServer
    session: aiohttp.ClientSession
    story: list[str]
    at: Callable[[str], Awaitable[None]]

    async def call(self, body: bytes | None, method: str = "POST") -> int:
        async with self.session.request(method, self.server.url, data=body) as response:
            await response.read()
            return response.status


@contextlib.asynccontextmanager
async def hooked() -> AsyncIterator[Hooked]:
    async def nothing(_: str) -> None:
        pass

    def hook(name: str) -> Any:
        async def run(*_: object) -> None:
            one.story.append(name)
            await one.at(name)

        return run

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(hook(HEADERS))
    trace.on_request_chunk_sent.append(hook(CHUNK))
    async with ProviderServer() as server, aiohttp.ClientSession(trace_configs=[trace]) as session:
        one = Hooked(server, session, [], nothing)
        yield one


@BODY
async def test_hooks_run_once_for_headers_and_once_for_a_body_in_this_order(body: bytes | None) -> None:
    async with hooked() as one:
        assert await one.call(body) == 200
        assert one.story == ([HEADERS, CHUNK] if body else [HEADERS])


@BODY
async def test_no_byte_has_left_while_the_last_hook_waits(body: bytes | None) -> None:
    async with hooked() as one:

        async def look(name: str) -> None:
            await asyncio.sleep(0.05)
            if name == last_hook(body):
                received.append(one.server.received)

        received: list[int] = []
        one.at = look
        assert await one.call(body) == 200
        assert received == [0], "the gate stands before the first byte"


@BODY
async def test_whole_request_is_written_in_the_turn_in_which_the_last_hook_ends(body: bytes | None) -> None:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[bytes] = loop.create_future()
    async with hooked() as one:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

            def look() -> None:
                peer, _ = listener.accept()
                with peer, contextlib.suppress(BlockingIOError):
                    peer.setblocking(False)
                    arrived.set_result(peer.recv(100_000))
                if not arrived.done():
                    arrived.set_result(b"")

            async def note(name: str) -> None:
                await asyncio.sleep(0.02)
                if name == last_hook(body):
                    loop.call_soon(look)

            one.at = note
            with pytest.raises(aiohttp.ClientError):
                await one.session.post(url, data=body)
    assert (await arrived).endswith(b"\r\n\r\n" + (body or b"")), "nothing of it is left for the next turn"


@BODY
async def test_error_in_the_last_hook_ends_the_call_before_anything_is_written(body: bytes | None) -> None:
    class Refused(Exception):
        pass

    async with hooked() as one:

        async def refuse(name: str) -> None:
            if name == last_hook(body):
                raise Refused

        one.at = refuse
        with pytest.raises((Refused, aiohttp.ClientError)) as ended:
            await one.call(body)
        assert isinstance(ended.value, Refused) or isinstance(ended.value.__cause__, Refused)
        await asyncio.sleep(0.05)
        assert one.server.received == 0


@BODY
async def test_request_that_is_sent_again_runs_its_hooks_again(body: bytes | None) -> None:
    """aiohttp repeats some methods when a kept connection has ended; the gate has to hear of it to stop it."""
    async with hooked() as one:
        replies = iter([Reply(), CLOSE])
        one.server.answer = lambda _: next(replies, Reply())
        assert [await one.call(body, "PUT"), await one.call(body, "PUT")] == [200, 200]
        assert len(one.server.seen) == 3, "the second was sent twice"
        assert one.story == 3 * ([HEADERS, CHUNK] if body else [HEADERS])


@BODY
async def test_hooks_see_the_context_of_their_caller(body: bytes | None) -> None:
    """By it they find the gate of their own call, also where aiohttp writes in a task of its own."""
    calls: contextvars.ContextVar[int] = contextvars.ContextVar("calls", default=0)
    async with hooked() as one:

        async def note(_: str) -> None:
            seen.append(calls.get())

        async def call(number: int) -> None:
            calls.set(number)
            await one.call(body)

        seen: list[int] = []
        one.at = note
        await asyncio.gather(*(call(number) for number in (1, 2, 3)))
        assert sorted(seen) == sorted([1, 2, 3] * (2 if body else 1))
