"""One connection to JetStream: publishing with conditions, reads from the leader, and the server's API.

Every foreign exception ends here: what is raised is StreamDown (nothing is known of the outcome: ask again with the
same contents), StreamFull, or an Answer of the server that the caller expected.
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
from nats.errors import Error as NatsError

from messaging.errors import StreamDown, StreamFull
from messaging.stream.access import Access
from messaging.stream.cancellation import heeding
from messaging.stream.client import FORBIDDEN, StreamClient
from messaging.stream.consumer import NatsConsumer
from messaging.stream.interface import ApiError, Busy, Record, Refused, Stored
from messaging.stream.requests import Requests

_log = structlog.get_logger(__name__)

_WRONG_SEQUENCE, _IN_FLIGHT, _NO_MESSAGE = 10071, 10164, 10037
_FULL = frozenset({10002, 10023, 10028, 10047, 10077, 10122})
_LEADERLESS = frozenset({10008, 10009, 10118})
"""Of a cluster: it is temporarily unavailable, who was asked does not lead, the stream is offline."""

_STORED = re.compile(rb'[{]"stream":"[A-Z_]+", ?"seq":([0-9]+)[}]')
"""What a server says to nearly every publish: read without parsing JSON."""

_FOREIGN = (NatsError, TimeoutError, OSError, ConnectionError)

_MENDABLE = (FORBIDDEN, "authorization violation", "no encryption", "certificate")
"""What an operator must mend: permissions, a password, a certificate. Anything else passes by itself."""

_MOST_REFUSALS = 50


@attrs.define
class NatsConnection:
    """A connection that comes back by itself; `timeout_s` bounds every single request."""

    client: StreamClient
    timeout_s: float
    asker: Requests

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""
        return self.client.is_connected

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> Stored | Refused | Busy:
        """Publish once and wait for the stream's word; raises StreamDown when the outcome is unknown, StreamFull."""
        msg = await self.asker.ask(subject, data, headers, timeout_s or self.timeout_s)
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
        raise StreamDown(f"publish refused with {code}")

    async def last(self, stream: str, subject: str) -> Record | None:
        """Read the newest message whose subject matches, from the leader."""
        return await self._read(stream, {"last_by_subj": subject})

    async def at(self, stream: str, sequence: int) -> Record | None:
        """Read one message by its sequence, from the leader."""
        return await self._read(stream, {"seq": sequence})

    async def next_after(self, stream: str, sequence: int, subject: str) -> Record | None:
        """Read the first message at or after `sequence` whose subject matches, from the leader."""
        return await self._read(stream, {"seq": sequence, "next_by_subj": subject})

    async def delete(self, stream: str, sequence: int) -> bool:
        """Delete one message; False when it was gone already."""
        try:
            answer = await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except ApiError:
            return False
        return bool(answer.get("success"))

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Call `$JS.API.<verb>`; raises ApiError with the server's refusal, StreamDown when it does not answer."""
        payload = json.dumps(body).encode() if body is not None else b""
        answer = _parsed(await self.asker.ask(f"$JS.API.{verb}", payload, None, timeout_s or self.timeout_s))
        if error := answer.get("error"):
            code = int(error.get("err_code", error.get("code", 0)))
            if code in _LEADERLESS:
                raise StreamDown(f"$JS.API.{verb} was answered with {code}")
            raise ApiError(code, str(error.get("description", "")))
        return answer

    async def consumer(self, stream: str, durable: str) -> NatsConsumer:
        """Draw from a durable consumer that the set-up has made; raises StreamDown."""
        request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        consumer = NatsConsumer(self.client, self.asker, self.timeout_s, request_subject)
        await consumer.open()
        return consumer

    async def last_of_each(self, stream: str, subject: str) -> list[Record]:
        """Read the newest message of every subject that matches; may lag the leader by a moment."""
        inbox = self.client.new_inbox()
        found: list[Record] = []
        try:
            sub = await self.client.subscribe(inbox)
            try:
                body = json.dumps({"multi_last": [subject]}).encode()
                await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", body, inbox)
                while (msg := await heeding(sub.next_msg(self.timeout_s))).headers and not msg.headers.get("Status"):
                    found.append(_record_of(msg))
            finally:
                await sub.unsubscribe()
        except _FOREIGN as exc:
            raise StreamDown("reading a bucket") from exc
        return found

    @contextlib.asynccontextmanager
    async def listening(self, subject: str, heard: Callable[[str, bytes], None]) -> AsyncIterator[None]:
        """Call `heard(subject, data)` for what is published meanwhile: a hint, which may be lost or come too early."""

        async def pass_on(msg: Msg) -> None:
            heard(msg.subject, msg.data)

        try:
            subscription = await self.client.subscribe(subject, cb=pass_on)
        except _FOREIGN as exc:
            raise StreamDown("subscribing") from exc
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
        raise StreamDown("an answer that is no JSON") from exc
    return answer


def _record_of(msg: Msg) -> Record:
    headers = dict(msg.headers or {})
    return Record(headers.get("Nats-Subject", msg.subject), int(headers.get("Nats-Sequence", "0")), msg.data, headers)


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
class _Watch:
    """Tells what happens to a connection, each thing once."""

    asker: Requests | None = None
    closing: bool = False
    refusals: list[str] = attrs.Factory(list)

    async def report(self, exc: Exception) -> None:
        """Hear of an error; of many tries to come back `lost` has said it once."""
        _log.debug("stream connection", error=type(exc).__name__)
        said = str(exc)
        known = any(word in said.lower() for word in _MENDABLE)
        if known and said not in self.refusals and len(self.refusals) < _MOST_REFUSALS:
            self.refusals.append(said)
            _log.error("the stream refuses", said=said)

    async def lost(self) -> None:
        """Hear that the connection is gone."""
        if self.asker is not None:
            self.asker.lose()
        if not self.closing:
            _log.warning("stream connection lost")

    async def back(self) -> None:
        """Hear that it is there again."""
        self.refusals.clear()
        _log.info("stream connection is back")


@contextlib.asynccontextmanager
async def open_connection(
    url: str, name: str, access: Access | None = None, *, timeout_s: float = 2.5, connect_timeout_s: float = 30.0
) -> AsyncIterator[NatsConnection]:
    """Connect, waiting for a server that is still coming up; raises StreamDown when none comes in time."""
    client, watch = StreamClient(), _Watch()
    try:
        async with asyncio.timeout(connect_timeout_s):
            await client.connect(
                [part.strip() for part in url.split(",")],
                name=name,
                error_cb=watch.report,
                disconnected_cb=watch.lost,
                reconnected_cb=watch.back,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]  # only slept
                connect_timeout=2,
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=-1,  # else a publish that timed out while disconnected is stored later
                **(access or Access()).options(client),
            )
            asker = watch.asker = Requests(client)
            await asker.open()
    except _FOREIGN as exc:
        raise StreamDown(f"connecting: {watch.refusals[-1]}" if watch.refusals else "connecting") from exc
    try:
        yield NatsConnection(client, timeout_s, asker)
    finally:
        watch.closing = True
        with contextlib.suppress(*_FOREIGN):
            async with asyncio.timeout(2):
                await client.close()
