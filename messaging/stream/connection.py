"""One connection to JetStream: conditional publishes, reads from the stream's leader, and the server's API.

Exceptions of nats-py are translated here. Methods raise StreamDown (the outcome is unknown: repeat the request with the
same contents), StreamFull, or ApiError when the server's API refuses a request.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from messaging.errors import CorruptRecord, StreamDown, StreamFull
from messaging.runtime.backoff import Backoff, retry
from messaging.stream.access import Access
from messaging.stream.cancellation import cancellable, within
from messaging.stream.client import FORBIDDEN, StreamClient
from messaging.stream.consumer import NatsConsumer
from messaging.stream.interface import ApiError, Busy, Record, Refused, Stored
from messaging.stream.requests import Requests
from messaging.stream.silence import Silence

_log = structlog.get_logger(__name__)

_WRONG_SEQUENCE, _IN_FLIGHT, _NO_MESSAGE = 10071, 10164, 10037
_FULL = frozenset({10002, 10023, 10028, 10047, 10077, 10122})
_NEVER_TAKEN = frozenset({10054, 10188, 10189, 10190, 10191, 10192})
"""Larger than the stream allows; a schedule whose time, target or TTL is none."""

_LEADERLESS = frozenset({10008, 10009, 10118})
"""In a cluster: temporarily unavailable, the server asked is not the leader, the stream is offline."""

_STORED = re.compile(rb'[{]"stream":"[A-Z_]+", ?"seq":([0-9]+)[}]')
"""The answer to nearly every publish; matching it is faster than parsing JSON."""

_FOREIGN = (NatsError, TimeoutError, OSError, ConnectionError)

_OPERATOR_FAULTS = (FORBIDDEN, "authorization violation", "no encryption", "certificate")
"""Parts of errors that an operator must fix: permissions, a password, a certificate. Others pass by themselves."""

_MAX_REFUSALS = 50
_AWAY = Backoff(first_s=0.1, longest_s=0.5)

_CLOSE_S = 2.0
_PING_S = 1


@attrs.define
class NatsConnection:
    """A connection that reconnects by itself; `timeout_s` is the time-out of every request."""

    client: StreamClient
    timeout_s: float
    requests: Requests
    silence: Silence = attrs.Factory(Silence)

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return self.client.is_connected

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> Stored | Refused | Busy:
        """Publish once and wait for the acknowledgement; raises StreamFull, StreamDown when the outcome is unknown.

        Raises CorruptRecord when repeating it is of no use, because the server will never take it. When nothing has
        been stored for a while, the connection goes to another server.
        """
        began = asyncio.get_running_loop().time()
        try:
            answer = await self._publish(subject, data, headers, timeout_s or self.timeout_s)
        except StreamDown:
            await self._leave_a_silent_server(began)
            raise
        self.silence.end()
        return answer

    async def _leave_a_silent_server(self, began: float) -> None:
        """Go to another server when this one has stored nothing for too long although the connection is up."""
        if not self.client.is_connected:
            self.silence.end()
        elif self.silence.is_too_long(began, asyncio.get_running_loop().time()) and await self.client.change_server():
            _log.warning("nothing is stored through this server: trying another one")

    async def _publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None, timeout_s: float
    ) -> Stored | Refused | Busy:
        msg = await self.requests.request(subject, data, headers, timeout_s)
        if (plain := _STORED.fullmatch(msg.data)) is not None:
            return Stored(int(plain[1]))
        answer = _parsed(msg)
        error = answer.get("error")
        if error is None:
            return Stored(int(answer["seq"]))
        code = error.get("err_code", 0)
        if code == _WRONG_SEQUENCE:
            digits = str(error.get("description", "")).rpartition(":")[2].strip()
            return Refused(int(digits) if digits.isdigit() else 0)
        if code == _IN_FLIGHT:
            return Busy()
        if code in _FULL:
            raise StreamFull(subject.split(".")[1])
        if code in _NEVER_TAKEN:
            raise CorruptRecord(subject, f"the server never takes it ({code})")
        raise StreamDown(f"publish refused with {code}")

    async def last(self, stream: str, subject: str) -> Record | None:
        """Read the newest message whose subject matches, from the stream's leader; None when there is none."""
        return await self._read(stream, {"last_by_subj": subject})

    async def at(self, stream: str, sequence: int) -> Record | None:
        """Read one message by its sequence, from the stream's leader; None when there is none."""
        return await self._read(stream, {"seq": sequence})

    async def next_after(self, stream: str, sequence: int, subject: str) -> Record | None:
        """Read the first matching message at or after `sequence`, from the stream's leader; None when there is none."""
        return await self._read(stream, {"seq": sequence, "next_by_subj": subject})

    async def delete(self, stream: str, sequence: int) -> bool:
        """Delete one message; False when it was already gone."""
        try:
            answer = await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except ApiError:
            return False
        return bool(answer.get("success"))

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Call `$JS.API.<verb>`; raises ApiError when the server refuses, StreamDown when it does not answer."""
        payload = json.dumps(body).encode() if body is not None else b""
        answer = _parsed(await self.requests.request(f"$JS.API.{verb}", payload, None, timeout_s or self.timeout_s))
        if error := answer.get("error"):
            code = int(error.get("err_code", error.get("code", 0)))
            if code in _LEADERLESS:
                raise StreamDown(f"$JS.API.{verb} was answered with {code}")
            raise ApiError(code, str(error.get("description", "")))
        return answer

    async def consumer(self, stream: str, durable: str) -> NatsConsumer:
        """Open a durable consumer, which the set-up has created, to fetch from it; waits for the connection."""
        request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        consumer = NatsConsumer(self.client, self.requests, self.timeout_s, request_subject)
        await retry(consumer.open, _AWAY, StreamDown)
        return consumer

    async def last_of_each(self, stream: str, subject: str) -> list[Record]:
        """Read the newest message of every subject that matches; may lag behind the leader by a moment."""
        inbox = self.client.new_inbox()
        found: list[Record] = []
        try:
            sub = await self.client.subscribe(inbox)
            try:
                body = json.dumps({"multi_last": [subject]}).encode()
                await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", body, inbox)
                while (msg := await cancellable(sub.next_msg(self.timeout_s))).headers:
                    if msg.headers.get("Status"):
                        break
                    if (record := _record_of(msg)) is not None:
                        found.append(record)
            finally:
                await sub.unsubscribe()
        except _FOREIGN as exc:
            raise StreamDown("reading a bucket") from exc
        return found

    @contextlib.asynccontextmanager
    async def listening(self, subject: str, notify: Callable[[str, bytes], None]) -> AsyncIterator[None]:
        """Call `notify(subject, data)` for each publish meanwhile; may be lost, or come before the data is stored."""

        async def pass_on(msg: Msg) -> None:
            notify(msg.subject, msg.data)

        async def subscribe() -> Subscription:
            try:
                return await self.client.subscribe(subject, cb=pass_on)
            except _FOREIGN as exc:
                raise StreamDown("subscribing") from exc

        subscription = await retry(subscribe, _AWAY, StreamDown)
        try:
            yield
        finally:
            with contextlib.suppress(*_FOREIGN):
                await subscription.unsubscribe()

    async def _read(self, stream: str, request: Mapping[str, Any]) -> Record | None:
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", request)
        except ApiError as exc:
            if exc.code == _NO_MESSAGE:
                return None
            raise StreamDown(f"reading {stream} was refused with {exc.code}") from exc
        return _record_from_api(answer["message"])


def _parsed(msg: Msg) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(msg.data)
    except ValueError as exc:
        raise StreamDown("an answer that is not JSON") from exc
    return answer


def _record_of(msg: Msg) -> Record | None:
    """Read an answer to a direct read; None when its headers are not the server's."""
    headers = dict(msg.headers or {})
    subject, sequence = headers.get("Nats-Subject", ""), headers.get("Nats-Sequence", "")
    return Record(subject, int(sequence), msg.data, headers) if sequence.isascii() and sequence.isdigit() else None


def _record_from_api(message: Mapping[str, Any]) -> Record:
    import base64

    headers: dict[str, str] = {}
    if raw := message.get("hdrs"):
        for line in base64.b64decode(raw).decode(errors="replace").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name] = value.strip()
    return Record(message["subject"], int(message["seq"]), base64.b64decode(message.get("data", "")), headers)


@attrs.define
class _Callbacks:
    """nats-py's callbacks: logs the state of the connection, and fails its requests when it is lost."""

    client: StreamClient
    requests: Requests | None = None
    closing: bool = False
    refusals: list[str] = attrs.Factory(list)

    async def error(self, exc: Exception) -> None:
        """Log an error that an operator must fix, once; others only for debugging, as each reconnect may fail."""
        _log.debug("stream connection", error=type(exc).__name__)
        said = str(exc)
        operators = any(part in said.lower() for part in _OPERATOR_FAULTS)
        if operators and said not in self.refusals and len(self.refusals) < _MAX_REFUSALS:
            self.refusals.append(said)
            _log.error("the stream refuses", said=said)

    async def disconnected(self) -> None:
        """Fail the requests under way, and log it unless we are closing."""
        if self.requests is not None:
            self.requests.fail_all()
        if not self.closing:
            _log.warning("stream connection lost")

    async def reconnected(self) -> None:
        """Log it, and log errors anew from now on."""
        self.refusals.clear()
        _log.info("stream connection is back")
        for tell in list(self.client.on_reconnect):
            tell()


@contextlib.asynccontextmanager
async def open_connection(
    url: str, name: str, access: Access | None = None, *, timeout_s: float = 2.5, connect_timeout_s: float = 30.0
) -> AsyncIterator[NatsConnection]:
    """Connect, waiting for a server that is still starting; raises StreamDown after `connect_timeout_s`."""
    client = StreamClient()
    callbacks = _Callbacks(client)

    async def connect() -> Requests:
        await client.connect(
            [part.strip() for part in url.split(",")],
            name=name,
            error_cb=callbacks.error,
            disconnected_cb=callbacks.disconnected,
            reconnected_cb=callbacks.reconnected,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,  # type: ignore[arg-type]  # only passed to sleep
            connect_timeout=2,
            ping_interval=_PING_S,  # a frozen server keeps its connections open: only unanswered pings show it
            max_outstanding_pings=2,
            pending_size=-1,  # else a publish that timed out while disconnected would be sent later
            **(access or Access()).options(client),
        )
        requests = callbacks.requests = Requests(client)
        await requests.open()
        return requests

    try:
        requests = await within(connect(), connect_timeout_s)
    except _FOREIGN as exc:
        raise StreamDown(f"connecting: {callbacks.refusals[-1]}" if callbacks.refusals else "connecting") from exc
    try:
        yield NatsConnection(client, timeout_s, requests)
    finally:
        callbacks.closing = True
        with contextlib.suppress(*_FOREIGN):
            await within(client.close(), _CLOSE_S)
