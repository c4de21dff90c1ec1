"""HTTP calls to one provider: passes the gate directly before the bytes are written, and classifies every failure.

Requests are built with httpx and sent over aiohttp's connections, so that neither adds anything by itself
(authentication, cookies, redirects, proxies from the environment). The gate is entered from aiohttp's tracing hooks,
which are the last of our code before the socket's write (tests/contract/test_aiohttp_hooks.py). A call that fails
before it has passed the gate was not sent; one that fails afterwards has an unclear outcome.
"""

import asyncio
import contextvars
import importlib.metadata
import time
from types import SimpleNamespace

import aiohttp
import attrs
import httpx

from dispatcher.transport import delivery
from dispatcher.transport.gate import GateClosed, WriteGate
from dispatcher.transport.guarded import Guarded, log_failure, unsendable
from dispatcher.transport.sample import faults_of_requests
from dispatcher.transport.stall import CallTimer, StallWatch
from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider, private_values_of
from providers.base import AMBIGUOUS, TRANSIENT, Answer, Dialect, Outcome, Request, Submission
from providers.statuses import outcome_of_status

_MAX_ANSWER_BYTES = 64 * 1024
_LONGEST_STALL_S = 1.0

_CLOSED_EARLY = (
    "the provider closed a kept connection when it was used again, so that nobody knows whether it read the request: "
    "set keepalive_s below the provider's own, or to 0 for a new connection with each call"
)


@attrs.define
class _Call:
    gate: WriteGate
    has_body: bool
    timer: CallTimer
    transport: asyncio.BaseTransport | None = None
    closed: bool = False
    reused: bool = False
    """Whether the call goes over a connection that an earlier call has left open."""
    head: aiohttp.ClientResponse | None = None


_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("provider_call", default=None)


class HttpCaller:
    """Makes calls to one provider. `timeout_s` limits the time from the write of a call to the end of its answer.

    With `keepalive_s` 0 every call has a connection of its own.
    """

    def __init__(self, *, timeout_s: float, max_connections: int, keepalive_s: float) -> None:
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self._keepalive_s = keepalive_s
        self._watch = StallWatch(min(_LONGEST_STALL_S, timeout_s / 4))
        self._session: aiohttp.ClientSession | None = None
        self._url = httpx.URL()
        self._url_text = ""
        # Headers of every request, unless the provider's own headers override them.
        self._always = {
            "accept": "*/*",
            "accept-encoding": "identity",
            "connection": "keep-alive",
            "user-agent": f"sms-gateway/{importlib.metadata.version('sms-gateway')}",
        }

    async def call(self, request: Request, gate: WriteGate) -> Answer | Outcome:
        """Make the call; returns an Outcome when there is no answer. Raises GateClosed when the gate refuses."""
        try:
            built = self._build(request)
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing was written
            log_failure(exc)
            return unsendable(exc)
        state = _Call(gate, bool(request.body), CallTimer(self._timeout_s))
        token = _call.set(state)
        answer: Answer | None = None
        try:
            async with state.timer:
                answer = await self._exchange(built, state)
        except GateClosed:
            raise
        except Exception as exc:
            if state.closed:
                raise GateClosed from exc
            return _without_answer(state, exc)
        finally:
            _call.reset(token)
            delivery.end(state.transport, answered=answer is not None)
        return answer

    def stalled_since(self, moment: float) -> bool:
        """Whether this process stood still at some time after `moment` (the event loop's time)."""
        return self._watch.stalled_since(moment)

    def _build(self, request: Request) -> httpx.Request:
        if request.url != self._url_text:  # most providers have one URL, and parsing it is the slowest part
            self._url_text, self._url = request.url, httpx.URL(request.url)
        headers = self._always | {name.lower(): value for name, value in request.headers.items()}
        if not self._keepalive_s:
            headers["connection"] = "close"
        # A stream, because for other contents httpx adds headers of its own, which takes most of its time.
        built = httpx.Request(request.method, self._url, headers=headers, stream=httpx.ByteStream(request.body))
        built.headers.encoding = "ascii"  # otherwise httpx inspects all headers at each access to find the encoding
        built.read()
        return built

    async def _exchange(self, request: httpx.Request, state: _Call) -> Answer:
        async with self._opened().request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=request.content or None,
            allow_redirects=False,
        ) as response:
            state.head = response
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > _MAX_ANSWER_BYTES:
                    break
            return Answer(response.status, response.headers, bytes(body), time.time())

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session, which is created on first use because that needs a running event loop."""
        if self._session is None:
            hooks = aiohttp.TraceConfig()
            hooks.on_request_headers_sent.append(_before_headers)
            hooks.on_request_chunk_sent.append(_before_chunk)
            hooks.on_connection_reuseconn.append(_note_reuse)
            self._watch.start()
            self._session = aiohttp.ClientSession(
                connector=delivery.Connector(
                    limit=self._max_connections,
                    keepalive_s=self._keepalive_s,
                    timeout_s=self._timeout_s,
                    on_connection=_note_connection,
                ),
                trace_configs=[hooks],
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # `call` has the time-out, which pauses at the gate
            )
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        self._watch.stop()
        if self._session is not None:
            await self._session.close()


_MAYBE_OURS = frozenset({AMBIGUOUS, TRANSIENT})
"""What a call may end with because this process stood still, such as a time-out or a connection closed meanwhile."""


class HttpProviderClient:
    """The client of a provider that is called over HTTP."""

    def __init__(self, dialect: Dialect, caller: HttpCaller, secrets: tuple[str, ...] = ()) -> None:
        self._dialect = Guarded(dialect, secrets)
        self._caller = caller
        self.can_look_up = dialect.can_look_up
        self.missing_after_s = dialect.missing_after_s

    async def send(self, submission: Submission, gate: WriteGate) -> Outcome:
        """Make the call; see ProviderClient."""
        began = asyncio.get_running_loop().time()
        outcome = await self._send(submission, gate)
        if outcome.kind in _MAYBE_OURS and self._caller.stalled_since(began):
            return attrs.evolve(outcome, stalled=True)
        return outcome

    async def _send(self, submission: Submission, gate: WriteGate) -> Outcome:
        request = self._dialect.request(submission)
        if isinstance(request, Outcome):
            return request
        answer = await self._caller.call(request, gate)
        return answer if isinstance(answer, Outcome) else self._dialect.read(answer, submission)

    async def look_up(self, message_id: str, traceparent: str, gate: WriteGate) -> Outcome | None:
        """Ask whether the provider took a message; see ProviderClient."""
        request = self._dialect.look_up_request(message_id, traceparent) if self.can_look_up else None
        if request is None:
            return None
        answer = await self._caller.call(request, gate)
        return None if isinstance(answer, Outcome) else self._dialect.read_look_up(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._caller.aclose()


def open_client(provider: Provider, dialect: Dialect) -> HttpProviderClient:
    """Make the client of one provider, which connects on first use; raises ConfigError if no request can be sent."""
    faults = [(f"provider[{provider.name}].{key}", text) for key, text in faults_of_requests(dialect)]
    if faults:
        raise ConfigError(faults)
    caller = HttpCaller(
        timeout_s=provider.timeout_s, max_connections=provider.max_in_flight, keepalive_s=provider.keepalive_s
    )
    return HttpProviderClient(dialect, caller, private_values_of(provider))


def _without_answer(state: _Call, exc: Exception) -> Answer | Outcome:
    """Judge a call that ended without a whole answer: by its status if one came, else by whether it was written.

    A body that breaks off does not change the meaning of a status that says no. A success needs its body.
    """
    if state.head is not None and outcome_of_status(state.head.status) is not None:
        return Answer(state.head.status, state.head.headers, b"", time.time())
    passed = state.gate.passed
    if state.timer.expired():
        return _timed_out(passed=passed)
    if passed and state.reused and state.head is None and isinstance(exc, aiohttp.ClientConnectionError):
        return Outcome(AMBIGUOUS, code="kept-connection-closed", detail=_CLOSED_EARLY)
    if passed:
        return Outcome(AMBIGUOUS, code=type(exc).__name__, detail="the connection broke after the request was sent")
    if isinstance(exc, OSError) or (isinstance(exc, aiohttp.ClientError) and not isinstance(exc, ValueError)):
        return Outcome(TRANSIENT, code=type(exc).__name__, detail="no connection to the provider")
    log_failure(exc)
    return unsendable(exc)


def _timed_out(*, passed: bool) -> Outcome:
    if passed:
        return Outcome(AMBIGUOUS, code="timeout", detail="no answer in time after the request was sent")
    return Outcome(TRANSIENT, code="connect-timeout", detail="no connection to the provider in time")


def _note_connection(transport: asyncio.BaseTransport | None) -> None:
    if (state := _call.get()) is not None:
        state.transport = transport


async def _before_headers(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    state = _call.get()
    # With a body, the gate is passed at the body. Headers after the gate mean that aiohttp sends the request again.
    if state is not None and (not state.has_body or state.gate.passed):
        await _enter(state)


async def _note_reuse(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    if (state := _call.get()) is not None:
        state.reused = True


async def _before_chunk(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    state = _call.get()
    if state is not None and state.has_body and not state.gate.passed:
        await _enter(state)


async def _enter(state: _Call) -> None:
    loop = asyncio.get_running_loop()
    if state.gate.passed:
        # aiohttp is about to send the request again on a new connection. Only we may decide that.
        raise aiohttp.ClientConnectionError("a call is made only once")
    state.timer.pause()
    try:
        await state.gate.enter()
    except GateClosed:
        state.closed = True
        raise
    state.timer.start()
    delivery.begin(state.transport)
    # The write happens in this turn of the event loop, so `wrote` runs after it.
    loop.call_soon(state.gate.wrote)
