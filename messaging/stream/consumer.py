"""Drawing messages from a durable pull consumer, and giving each back in one of three ways."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import attrs
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MsgAlreadyAckdError
from nats.js.client import JetStreamContext

from messaging.cancellation import heeding
from messaging.stream.connection import Connection

_FOREIGN = (NatsError, TimeoutError, OSError, ConnectionError)
_REMEMBERED = 4096


@attrs.define(eq=False)
class Delivery:
    """One message as drawn: it is ours until it is acknowledged, given back, or silent for `ack_wait`."""

    subject: str
    data: bytes
    headers: dict[str, str]
    sequence: int
    delivered: int
    waiting: int
    _msg: Msg
    _timeout_s: float
    _let_go: Callable[[], object]

    async def ack(self, budget_s: float = 10.0) -> bool:
        """Acknowledge and wait for the server's word, again and again: a plain one may be lost in a crash.

        Gives up after `budget_s`, and then the message comes again: a server that was killed may have forgotten this
        delivery, and answers only once it has been drawn anew, so that waiting for ever could wait for ourselves. What
        was given up counts as new when it is drawn, although the server may give it the same count.
        """
        end = time.monotonic() + budget_s
        pause = 0.05
        while True:
            try:
                await heeding(self._msg.ack_sync(timeout=self._timeout_s))
            except MsgAlreadyAckdError:
                return True
            except _FOREIGN:
                if time.monotonic() + pause >= end:
                    self._let_go()
                    return False
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)
                continue
            return True

    async def give_back(self) -> None:
        """Let another pod have it at once."""
        with contextlib.suppress(*_FOREIGN):
            await self._msg.nak()
        self._let_go()

    async def keep(self) -> None:
        """Tell the server that work goes on."""
        with contextlib.suppress(*_FOREIGN):
            await self._msg.in_progress()


class Consumer:
    """A durable pull consumer that exists already; forgets repeats of one and the same delivery."""

    def __init__(self, subscription: JetStreamContext.PullSubscription, timeout_s: float) -> None:
        self._subscription = subscription
        self._timeout_s = timeout_s
        self._seen: OrderedDict[tuple[int, int], None] = OrderedDict()

    async def fetch(self, batch: int, wait_s: float = 1.0) -> list[Delivery]:
        """Draw up to `batch` messages; an empty list when none came within `wait_s` or the server is away."""
        try:
            messages = await heeding(self._subscription.fetch(batch, wait_s))
        except TimeoutError:
            return []
        except _FOREIGN:
            await asyncio.sleep(0.1)
            return []
        return [delivery for msg in messages if (delivery := self._new(msg))]

    def _new(self, msg: Msg) -> Delivery | None:
        """Make the delivery, or None of a repeat of one that we hold or have done."""
        meta = msg.metadata
        key = (meta.sequence.stream, meta.num_delivered)
        if key in self._seen:
            return None
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        headers, let_go = dict(msg.headers or {}), partial(self._seen.pop, key, None)
        return Delivery(msg.subject, msg.data, headers, *key, meta.num_pending, msg, self._timeout_s, let_go)

    async def close(self) -> None:
        """Stop drawing."""
        with contextlib.suppress(*_FOREIGN):
            await self._subscription.unsubscribe()


async def open_consumer(connection: Connection, stream: str, durable: str) -> Consumer:
    """Bind to a durable consumer that the set-up has made."""
    context = connection.client.jetstream(timeout=connection.timeout_s)
    subscription = await context.pull_subscribe_bind(durable, stream)
    return Consumer(subscription, connection.timeout_s)
