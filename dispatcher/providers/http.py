"""One HTTP call, with the gate right before its bytes leave, and every way of failing told apart.

httpx's requests over aiohttp's connections: none of what a client adds by itself (authentication, cookies, redirects,
the environment's proxies) may touch a call. The gate is entered from aiohttp's tracing hooks, the last code of ours
before the socket's write; whether it was passed decides if a broken call is harmless or unclear.
"""

import asyncio
import contextvars
import email.utils
import json
import math
import time
import urllib.parse
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
import attrs
import httpx

from dispatcher.providers.base import AMBIGUOUS, TRANSIENT, Gate, GateClosed, Outcome

_LARGEST_ANSWER = 64 * 1024
_LONGEST_RETRY_AFTER_S = 86_400.0

_ALWAYS = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": f"python-httpx/{httpx.__version__}",
}
"""What every request says unless the provider's own headers say otherwise."""


@attrs.frozen
class Answer:
    """What came back: status, headers (whatever their case) and at most 64 KiB of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@attrs.define
class _Call:
    gate: Gate
    has_body: bool
    limit: asyncio.Timeout
    timeout_s: float
    closed: bool = False


_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("provider_call", default=None)


class HttpCaller:
    """Makes calls to one provider. `timeout_s` bounds a call from its write to the end of its answer."""

    def __init__(self, *, timeout_s: float, max_connections: int, keepalive_s: float) -> None:
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self._keepalive_s = max(keepalive_s, 0.001)
        self._session: aiohttp.ClientSession | None = None

    def build(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        *,
        document: Any = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        """Build a request with at most one of a JSON document, a form, or parameters behind the URL."""
        merged, body = _ALWAYS | {name.lower(): value for name, value in headers.items()}, b""
        if document is not None:
            body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
            merged.setdefault("content-type", "application/json")
        elif form is not None:
            body = urllib.parse.urlencode(form).encode()
            merged.setdefault("content-type", "application/x-www-form-urlencoded")
        # A stream, so that httpx adds no headers of its own: that is most of the time that it takes.
        request = httpx.Request(method, url, params=params, headers=merged, stream=httpx.ByteStream(body))
        request.headers.encoding = "ascii"  # or httpx would look at all of them to find out, each time it is asked
        request.read()
        return request

    async def call(self, request: httpx.Request, gate: Gate) -> Answer | Outcome:
        """Make the call; an Outcome when there is no answer. Raises GateClosed when the gate refused."""
        limit = asyncio.timeout(self._timeout_s)
        state = _Call(gate, bool(request.content), limit, self._timeout_s)
        token = _call.set(state)
        try:
            async with limit:
                return await self._exchange(request)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            if state.closed:
                raise GateClosed from exc
            if limit.expired():
                return _timed_out(passed=gate.passed)
            return _broken(type(exc).__name__, passed=gate.passed)
        finally:
            _call.reset(token)

    async def _exchange(self, request: httpx.Request) -> Answer:
        async with self._opened().request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=request.content or None,
            allow_redirects=False,
        ) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > _LARGEST_ANSWER:
                    break
            return Answer(response.status, response.headers, bytes(body))

    def _opened(self) -> aiohttp.ClientSession:
        """Give the session, which has to be made where the event loop runs."""
        if self._session is None:
            hooks = aiohttp.TraceConfig()
            hooks.on_request_headers_sent.append(_before_headers)
            hooks.on_request_chunk_sent.append(_before_chunk)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=self._keepalive_s),
                trace_configs=[hooks],
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # `call` bounds the whole, and its clock stands at the gate
            )
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


class NoGate:
    """The gate of a call that is not paced: a look-up."""

    passed = False

    async def enter(self) -> None:
        """Let it pass."""
        self.passed = True

    def wrote(self) -> None:
        """Nothing counts."""


def _broken(kind: str, *, passed: bool) -> Outcome:
    if passed:
        return Outcome(AMBIGUOUS, code=kind, detail="the connection broke after the request had left")
    return Outcome(TRANSIENT, code=kind, detail="no connection to the provider")


def _timed_out(*, passed: bool) -> Outcome:
    if passed:
        return Outcome(AMBIGUOUS, code="timeout", detail="no answer in time after the request had left")
    return Outcome(TRANSIENT, code="connect-timeout", detail="no connection to the provider in time")


async def _before_headers(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    state = _call.get()
    # With a body the gate comes later; headers that come a second time are a request that is sent again.
    if state is not None and (not state.has_body or state.gate.passed):
        await _enter(state)


async def _before_chunk(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    state = _call.get()
    if state is not None and state.has_body and not state.gate.passed:
        await _enter(state)


async def _enter(state: _Call) -> None:
    loop = asyncio.get_running_loop()
    if state.gate.passed:
        # aiohttp would send a request again on a fresh connection: that is ours to decide, never the library's.
        raise aiohttp.ClientConnectionError("a call is made once")
    state.limit.reschedule(None)
    try:
        await state.gate.enter()
    except GateClosed:
        state.closed = True
        raise
    state.limit.reschedule(loop.time() + state.timeout_s)
    # The write follows in this very turn of the loop; the next turn comes after it.
    loop.call_soon(state.gate.wrote)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in seconds or as a date; None when there is none that makes sense."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None
