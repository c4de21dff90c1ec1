"""HTTP to one provider: the gate right before the bytes leave, and every way of failing told apart.

httpx's requests over aiohttp's connections: nothing that a client adds by itself (authentication, cookies, redirects,
the environment's proxies) may touch a call. The gate is entered from aiohttp's tracing hooks, the last code of ours
before the socket's write (tests/contract/test_aiohttp_hooks.py). A call that breaks before the gate was passed is
harmless; one that breaks afterwards is unclear.
"""

import asyncio
import contextvars
import importlib.metadata
import time
from types import SimpleNamespace

import aiohttp
import attrs
import httpx

from dispatcher.transport.gate import GateClosed, OpenGate, WriteGate
from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.base import AMBIGUOUS, TRANSIENT, Answer, Dialect, Outcome, Request, Submission

_MAX_ANSWER_BYTES = 64 * 1024


@attrs.define
class _Call:
    gate: WriteGate
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
        self._url = httpx.URL()
        self._url_text = ""
        # What every request says unless the provider's own headers say otherwise.
        self._always = {
            "accept": "*/*",
            "accept-encoding": "identity",
            "connection": "keep-alive",
            "user-agent": f"sms-gateway/{importlib.metadata.version('sms-gateway')}",
        }

    async def call(self, request: Request, gate: WriteGate) -> Answer | Outcome:
        """Make the call; an Outcome when there is no answer. Raises GateClosed when the gate refused."""
        built = self._build(request)
        limit = asyncio.timeout(self._timeout_s)
        state = _Call(gate, bool(request.body), limit, self._timeout_s)
        token = _call.set(state)
        try:
            async with limit:
                return await self._exchange(built)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            if state.closed:
                raise GateClosed from exc
            if limit.expired():
                return _timed_out(passed=gate.passed)
            return _broken(type(exc).__name__, passed=gate.passed)
        finally:
            _call.reset(token)

    def _build(self, request: Request) -> httpx.Request:
        if request.url != self._url_text:  # most providers have one URL, and parsing it takes longer than all the rest
            self._url_text, self._url = request.url, httpx.URL(request.url)
        headers = self._always | {name.lower(): value for name, value in request.headers.items()}
        # A stream, so that httpx adds no headers of its own: that is most of the time that it takes.
        built = httpx.Request(request.method, self._url, headers=headers, stream=httpx.ByteStream(request.body))
        built.headers.encoding = "ascii"  # or httpx would look at all of them to find out, each time it is asked
        built.read()
        return built

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
                if len(body) > _MAX_ANSWER_BYTES:
                    break
            return Answer(response.status, response.headers, bytes(body), time.time())

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


class HttpProviderClient:
    """The client of a provider that is reached over HTTP: its dialect, and what makes its calls."""

    def __init__(self, dialect: Dialect, caller: HttpCaller) -> None:
        self._dialect = dialect
        self._caller = caller
        self.can_look_up = dialect.can_look_up

    async def send(self, submission: Submission, gate: WriteGate) -> Outcome:
        """Make the call, passing the gate once; never raises for an answer."""
        answer = await self._caller.call(self._dialect.request(submission), gate)
        if isinstance(answer, Outcome):
            return answer
        outcome = self._dialect.read(answer)
        # A code is stored and logged: one that repeats the number is replaced by the status.
        repeats = submission.recipient.lstrip("+") in outcome.code
        return attrs.evolve(outcome, code=str(answer.status)) if repeats else outcome

    async def look_up(self, message_id: str, traceparent: str) -> Outcome | None:
        """Ask whether the provider took a message; None when it cannot say."""
        if not self.can_look_up:
            return None
        answer = await self._caller.call(self._dialect.look_up_request(message_id, traceparent), OpenGate())
        return None if isinstance(answer, Outcome) else self._dialect.read_look_up(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._caller.aclose()


def open_client(provider: Provider, dialect: Dialect) -> HttpProviderClient:
    """Make the client of one provider, which connects when it is used; raises ConfigError for a URL that cannot be."""
    try:
        httpx.URL(provider.url)
    except httpx.InvalidURL as exc:
        raise ConfigError([(f"provider[{provider.name}].url", f"is no URL: {exc}")]) from exc
    caller = HttpCaller(
        timeout_s=provider.timeout_s, max_connections=provider.max_in_flight, keepalive_s=provider.keepalive_s
    )
    return HttpProviderClient(dialect, caller)


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
