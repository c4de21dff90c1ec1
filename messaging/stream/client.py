"""nats-py's client, with direct message handlers and a reconnect after every server error."""

from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

FORBIDDEN = "permissions violation"
_VERSION = "NATS/1.0"
_SAID_BY_THE_SERVER = frozenset({"Status", "Description"})


class StreamClient(Client):
    """Calls handlers as it reads messages, and also reconnects when the server sends an error before it disconnects.

    The server does that when its users were changed; nats-py itself would close the connection for good. The functions
    in `on_reconnect` are called after each reconnect.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, Callable[[Msg], None]] = {}
        self.on_reconnect: set[Callable[[], None]] = set()

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

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        """Read headers of any contents. `Status` is only what the server says in the first line.

        nats-py's own reader raises on some bytes, which ends the connection, and lets a stored message pretend to be an
        answer of the server.
        """
        if not headers:
            return None
        first, *lines = bytes(headers).decode(errors="replace").split("\r\n")
        found = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon and name not in _SAID_BY_THE_SERVER:
                found[name] = value.strip()
        status, _, description = first.removeprefix(_VERSION).strip().partition(" ")
        if status.isascii() and status.isdigit():
            found |= {"Status": status, "Description": description}
        return found

    async def _select_next_server(self) -> None:
        """Close the connection of an attempt that a silent server did not answer; nats-py would leave it open."""
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._select_next_server()

    async def change_server(self) -> bool:
        """Go to another server although this one answers pings; False when there is none, or no connection."""
        if len(self._server_pool) < 2 or not self.is_connected:
            return False
        await self._process_op_err(NatsError("nats: nothing is stored through this server"))
        return True

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._handlers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_err(self, err_msg: str) -> None:
        if FORBIDDEN in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(NatsError(f"nats: {err_msg.strip(chr(39))}"))
