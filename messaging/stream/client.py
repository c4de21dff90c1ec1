"""nats-py's client, with what it lacks for us."""

from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

FORBIDDEN = "permissions violation"


class StreamClient(Client):
    """Hands messages over as it reads them, and comes back also when the server says why it hangs up.

    The server says so when its users were changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, Callable[[Msg], None]] = {}

    async def hear(self, subject: str, handler: Callable[[Msg], None]) -> Subscription:
        """Subscribe; `handler` must not raise, and gets each message at once.

        A callback of nats-py's gets it through a queue and a task of its own, which takes longer than reading it.
        """
        subscription = await self.subscribe(subject)
        self._handlers[subscription._id] = handler  # noqa: SLF001 - the number by which messages are sent to it
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
