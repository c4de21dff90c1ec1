"""Fetches messages from a durable pull consumer, and acknowledges them or gives them back."""

import asyncio
import contextlib
import itertools
import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

import attrs
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from messaging.errors import StreamDown
from messaging.runtime.backoff import Backoff, retry
from messaging.stream.cancellation import cancellable
from messaging.stream.client import StreamClient
from messaging.stream.interface import Delivery
from messaging.stream.requests import Requests
from messaging.stream.topology import NANOS

_FOREIGN = (NatsError, TimeoutError, OSError, ConnectionError)
_MAX_SEEN = 4096
_AWAY_PAUSE_S = 0.1
_ACK_UNANSWERED = Backoff(first_s=0.05, longest_s=1.0)
_TOKENS_WITHOUT_DOMAIN = 9
_REQUEST_ENDED = frozenset({"404", "408"})
"""The statuses that end a request normally: no message, or expired or completed."""


@attrs.define(eq=False)
class NatsDelivery:
    """One delivery of a message: ours until it is acknowledged, given back, or `ack_wait` passes without `keep`."""

    subject: str
    data: bytes
    headers: dict[str, str]
    sequence: int
    delivered: int
    waiting: int
    _msg: Msg
    _requests: Requests
    _timeout_s: float
    _forget: Callable[[], object]
    _settled: bool = False

    async def ack(self, budget_s: float = 10.0) -> bool:
        """Acknowledge, and repeat it until the server confirms: an unconfirmed acknowledgement may be lost in a crash.

        Returns False after `budget_s` without a confirmation; the message may then be redelivered. Waiting longer could
        wait for ourselves: a server that was killed may have forgotten this delivery, and confirms only after it has
        delivered the message again. That redelivery counts as new, although the server may number it as this one.
        """
        try:
            await retry(self._ack_once, _ACK_UNANSWERED, StreamDown, budget_s)
        except StreamDown:
            self._forget()
            return False
        return True

    async def _ack_once(self) -> None:
        if not self._settled:
            await self._requests.request(self._msg.reply, b"", None, self._timeout_s)
            self._settled = True

    async def ack_lightly(self) -> None:
        """Acknowledge without a confirmation: if a crash loses it, the message is redelivered."""
        with contextlib.suppress(*_FOREIGN):
            await self._msg.ack()
        self._forget()

    async def give_back(self) -> None:
        """Have the message redelivered at once, to any pod (a negative acknowledgement)."""
        if not self._settled:
            with contextlib.suppress(*_FOREIGN):
                await self._msg.nak()
                self._settled = True
        self._forget()

    async def keep(self) -> None:
        """Restart the ack wait: work on the message goes on."""
        if self._settled:
            return
        with contextlib.suppress(*_FOREIGN):
            await self._msg.in_progress()


class NatsConsumer:
    """An existing durable pull consumer; drops duplicates of the same delivery.

    It does not use nats-py's `fetch`, which drops the messages it has when a server that stops answers with an error:
    they would be redelivered only after `ack_wait`.
    """

    def __init__(self, client: StreamClient, requests: Requests, timeout_s: float, request_subject: str) -> None:
        self._client = client
        self._requests = requests
        self._timeout_s = timeout_s
        self._request_subject = request_subject
        self._inbox = f"{client.new_inbox()}."
        self._subscription: Subscription | None = None
        self._reply_numbers = itertools.count(1)
        self._arrived: deque[Msg] = deque()
        self._arrival = asyncio.Event()
        self._interrupted = False
        self._finished = False
        self._open_until = 0.0
        """Until when (monotonic) a request that no fetch waits for may still bring messages."""
        self._seen: OrderedDict[tuple[int, int], None] = OrderedDict()

    async def open(self) -> None:
        """Subscribe to the messages it will fetch; nats-py repeats that after every reconnect. Raises StreamDown."""
        try:
            self._subscription = await self._client.listen(f"{self._inbox}*", self._on_message)
        except _FOREIGN as exc:
            raise StreamDown("subscribing") from exc
        self._client.on_reconnect.add(self.interrupt)  # the server has forgotten the requests of a lost connection

    def _on_message(self, msg: Msg) -> None:
        self._arrived.append(msg)
        self._arrival.set()

    async def fetch(self, batch: int, wait_s: float = 1.0) -> list[Delivery]:
        """Fetch up to `batch` messages; an empty list when none came within `wait_s` or the server is away."""
        fetched: list[Msg] = []
        self._interrupted = False
        try:
            await cancellable(self._fetch(fetched, batch, wait_s))
        except TimeoutError:
            pass
        except _FOREIGN:
            if not fetched:
                await asyncio.sleep(_AWAY_PAUSE_S)
        return [delivery for msg in fetched if (delivery := self._new(msg))]

    async def _fetch(self, fetched: list[Msg], batch: int, wait_s: float) -> None:
        """Add to `fetched` the late messages of earlier requests; if there are none, those of a new request.

        While an earlier request is open it may bring the messages instead of the new one, which then does not end: so
        what has come is returned at once.
        """
        while self._arrived and len(fetched) < batch:
            if not _status(msg := self._arrived.popleft()):
                fetched.append(msg)
        if fetched or self._finished:
            return
        reply = f"{self._inbox}{next(self._reply_numbers)}"
        request = {"batch": batch, "expires": int(wait_s * NANOS), "no_wait": True}
        await self._client.publish(self._request_subject, json.dumps(request).encode(), reply)
        expires = time.monotonic() + wait_s
        async with asyncio.timeout(wait_s):
            while len(fetched) < batch:
                while not self._arrived:
                    if self._interrupted or self._finished or (fetched and time.monotonic() < self._open_until):
                        self._open_until = max(self._open_until, expires)
                        return
                    self._arrival.clear()
                    await self._arrival.wait()
                msg = self._arrived.popleft()
                if not (status := _status(msg)):
                    fetched.append(msg)
                elif msg.subject == reply:
                    if status not in _REQUEST_ENDED and not fetched:
                        await asyncio.sleep(_AWAY_PAUSE_S)
                    return

    def _new(self, msg: Msg) -> NatsDelivery | None:
        """Make the delivery of a message; None for a duplicate of one that we hold or have finished."""
        sequence, delivered, waiting = _parse_ack_subject(msg.reply)
        key = (sequence, delivered)
        if key in self._seen:
            return None
        self._seen[key] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        headers, forget = dict(msg.headers or {}), partial(self._seen.pop, key, None)
        return NatsDelivery(msg.subject, msg.data, headers, *key, waiting, msg, self._requests, self._timeout_s, forget)

    def interrupt(self) -> None:
        """Let a running fetch return now; messages that its request still brings come with the next fetch."""
        self._interrupted = True
        self._arrival.set()

    async def finish(self) -> None:
        """Ask for nothing more: a running fetch returns with what has arrived. Ends a fetch that waits for long.

        The server answers the flush after it has taken the subscription away, so what it had sent before has arrived.
        """
        if self._subscription is not None:
            with contextlib.suppress(*_FOREIGN):
                await self._subscription.drain()  # type: ignore[no-untyped-call]
        self._finished = True
        self._arrival.set()

    async def close(self) -> None:
        """Stop fetching."""
        self._client.on_reconnect.discard(self.interrupt)
        if self._subscription is not None:
            with contextlib.suppress(*_FOREIGN):
                await self._subscription.unsubscribe()


def _status(msg: Msg) -> str:
    """Return the status that ends a request; empty for a message."""
    return (msg.headers or {}).get("Status", "") if not msg.reply else ""


def _parse_ack_subject(reply: str) -> tuple[int, int, int]:
    """Read (stream sequence, delivery count, messages that wait behind it) from the subject that acknowledges.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer's sequence>.<time>.<waiting>`; with a domain, there
    are two more tokens before the stream, and there may be more at the end.
    """
    tokens = reply.split(".")
    delivered, sequence, _, _, waiting = tokens[4:9] if len(tokens) == _TOKENS_WITHOUT_DOMAIN else tokens[6:11]
    return int(sequence), int(delivered), int(waiting)
