"""nats-py's client, with direct message handlers and a reconnect after every server error."""

from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

FORBIDDEN = "permissions violation"


class StreamClient(Client):
    """Calls handlers as it reads messages, and also reconnects when the server sends an error before it disconnects.

    The server does that when its users were changed; nats-py itself would close the connection for good.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, Callable[[Msg], None]] = {}

    async def listen(self, subject: str, handler: Callable[[Msg], None]) -> Subscription:
        """Subscribe; `handler` is called for each message as soon as it is read, and must not raise.

        nats-py passes a message to a callback through a queue and another task, which takes longer than reading it.
        """
        subscription = await self.subscribe(subject)
        self._handlers[subscription._id] = handler  # noqa: SLF001 - the server addresses messages by it
        return subscription

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            handler(self._build_message(sid, subject, reply, data, await self._process_headers(headers)))

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._handlers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_err(self, err_msg: str) -> None:
        if FORBIDDEN in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(NatsError(f"nats: {err_msg.strip(chr(39))}"))
