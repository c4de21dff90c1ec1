"""Drawing messages from a durable pull consumer, and giving each back in one of three ways."""

import asyncio
import contextlib
import itertools
import json
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

import attrs
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from messaging.errors import StreamDown
from messaging.runtime.backoff import Backoff, retry
from messaging.stream.cancellation import heeding
from messaging.stream.client import StreamClient
from messaging.stream.interface import Delivery
from messaging.stream.requests import Requests
from messaging.stream.topology import NANOS

_FOREIGN = (NatsError, TimeoutError, OSError, ConnectionError)
_REMEMBERED = 4096
_AWAY_S = 0.1
_ACK_UNANSWERED = Backoff(first_s=0.05, longest_s=1.0)
_WORDS = 9
_ORDERLY = frozenset({"404", "408"})
"""How a request ends that found nothing, or nothing more: no message, expired or completed."""


@attrs.define(eq=False)
class NatsDelivery:
    """One message as drawn: it is ours until it is acknowledged, given back, or silent for `ack_wait`."""

    subject: str
    data: bytes
    headers: dict[str, str]
    sequence: int
    delivered: int
    waiting: int
    _msg: Msg
    _asker: Requests
    _timeout_s: float
    _let_go: Callable[[], object]
    _settled: bool = False

    async def ack(self, budget_s: float = 10.0) -> bool:
        """Acknowledge and wait for the server's word, again and again: a plain one may be lost in a crash.

        Gives up after `budget_s`, and then the message comes again: a server that was killed may have forgotten this
        delivery, and answers only once it has been drawn anew, so that waiting for ever could wait for ourselves. What
        was given up counts as new when it is drawn, although the server may give it the same count.
        """
        try:
            await retry(self._acked, _ACK_UNANSWERED, StreamDown, budget_s)
        except StreamDown:
            self._let_go()
            return False
        return True

    async def _acked(self) -> None:
        if not self._settled:
            await self._asker.ask(self._msg.reply, b"", None, self._timeout_s)
            self._settled = True

    async def ack_lightly(self) -> None:
        """Acknowledge without waiting for the server's word: a crash may lose it, and then the message comes again."""
        with contextlib.suppress(*_FOREIGN):
            await self._msg.ack()
        self._let_go()

    async def give_back(self) -> None:
        """Let another pod have it at once."""
        if not self._settled:
            with contextlib.suppress(*_FOREIGN):
                await self._msg.nak()
                self._settled = True
        self._let_go()

    async def keep(self) -> None:
        """Tell the server that work goes on."""
        if self._settled:
            return
        with contextlib.suppress(*_FOREIGN):
            await self._msg.in_progress()


class NatsConsumer:
    """A durable pull consumer that exists already; forgets repeats of one and the same delivery.

    Draws by itself rather than by nats-py's `fetch`, which drops what it holds when a server that stops answers it with
    an error: such messages would come again only after `ack_wait`.
    """

    def __init__(self, client: StreamClient, asker: Requests, timeout_s: float, request_subject: str) -> None:
        self._client = client
        self._asker = asker
        self._timeout_s = timeout_s
        self._request_subject = request_subject
        self._inbox = f"{client.new_inbox()}."
        self._subscription: Subscription | None = None
        self._requests = itertools.count(1)
        self._arrived: deque[Msg] = deque()
        self._something = asyncio.Event()
        self._seen: OrderedDict[tuple[int, int], None] = OrderedDict()

    async def open(self) -> None:
        """Listen for what is drawn; nats-py subscribes again after every reconnect. Raises StreamDown."""
        try:
            self._subscription = await self._client.hear(f"{self._inbox}*", self._heard)
        except _FOREIGN as exc:
            raise StreamDown("subscribing") from exc

    def _heard(self, msg: Msg) -> None:
        self._arrived.append(msg)
        self._something.set()

    async def fetch(self, batch: int, wait_s: float = 1.0) -> list[Delivery]:
        """Draw up to `batch` messages; an empty list when none came within `wait_s` or the server is away."""
        drawn: list[Msg] = []
        try:
            await heeding(self._draw(drawn, batch, wait_s))
        except TimeoutError:
            pass
        except _FOREIGN:
            if not drawn:
                await asyncio.sleep(_AWAY_S)
        return [delivery for msg in drawn if (delivery := self._new(msg))]

    async def _draw(self, drawn: list[Msg], batch: int, wait_s: float) -> None:
        """Add to `drawn` what an earlier request has brought late, else what a new one brings until it has ended."""
        while self._arrived and len(drawn) < batch:
            if not _status(msg := self._arrived.popleft()):
                drawn.append(msg)
        if drawn:
            return
        reply = f"{self._inbox}{next(self._requests)}"
        request = {"batch": batch, "expires": int(wait_s * NANOS), "no_wait": True}
        await self._client.publish(self._request_subject, json.dumps(request).encode(), reply)
        async with asyncio.timeout(wait_s):
            while len(drawn) < batch:
                while not self._arrived:
                    self._something.clear()
                    await self._something.wait()
                msg = self._arrived.popleft()
                if not (status := _status(msg)):
                    drawn.append(msg)
                elif msg.subject == reply:
                    if status not in _ORDERLY and not drawn:
                        await asyncio.sleep(_AWAY_S)
                    return

    def _new(self, msg: Msg) -> NatsDelivery | None:
        """Make the delivery, or None of a repeat of one that we hold or have done."""
        sequence, delivered, waiting = _place(msg.reply)
        key = (sequence, delivered)
        if key in self._seen:
            return None
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        headers, let_go = dict(msg.headers or {}), partial(self._seen.pop, key, None)
        return NatsDelivery(msg.subject, msg.data, headers, *key, waiting, msg, self._asker, self._timeout_s, let_go)

    async def close(self) -> None:
        """Stop drawing."""
        if self._subscription is not None:
            with contextlib.suppress(*_FOREIGN):
                await self._subscription.unsubscribe()


def _status(msg: Msg) -> str:
    """Give the status that ends a request; empty for a message."""
    return (msg.headers or {}).get("Status", "") if not msg.reply else ""


def _place(reply: str) -> tuple[int, int, int]:
    """Read (stream sequence, count of deliveries, messages that wait behind it) from where a delivery is acknowledged.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer's sequence>.<time>.<waiting>`; with a domain, two
    more words stand before the stream, and more may come at the end.
    """
    words = reply.split(".")
    delivered, sequence, _, _, waiting = words[4:9] if len(words) == _WORDS else words[6:11]
    return int(sequence), int(delivered), int(waiting)
