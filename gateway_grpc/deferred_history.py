"""Lets the server start before the history's library is loaded, which takes a second."""

import asyncio
import contextlib
from typing import Protocol

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.acceptance import AcceptedMessages
from gateway_grpc.lookup import StoredMessages
from messaging.errors import StoreDown

_LOADING_S = 5.0
"""As long as a read of the history itself may take; on a busy machine, loading takes several seconds."""


class Stored(StoredMessages, AcceptedMessages, Protocol):
    """All that the gateway reads from the history."""


class DeferredHistory:
    """A history that is opened in the background. Reads before that wait, and raise StoreDown after `loading_s`."""

    def __init__(self, loading_s: float = _LOADING_S) -> None:
        self._loading_s = loading_s
        self._history: Stored | None = None
        self._loaded = asyncio.Event()

    async def find(self, client: str, message_id: str) -> pb.MessageStatus | None:
        """Find one message by its id."""
        return await (await self._when_loaded()).find(client, message_id)

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        """Return what was accepted, including the text."""
        return await (await self._when_loaded()).command(client, message_id)

    async def find_by_request_id(self, client: str, request_id: str) -> pb.MessageStatus | None:
        """Find the newest message under a request_id."""
        return await (await self._when_loaded()).find_by_request_id(client, request_id)

    async def list_page(
        self, client: str, request: api.ListMessagesRequest, after: str | None, limit: int
    ) -> list[pb.MessageStatus]:
        """List messages older than `after`, newest first."""
        return await (await self._when_loaded()).list_page(client, request, after, limit)

    async def open(self, url: str, stack: contextlib.AsyncExitStack) -> None:
        """Load the library in a thread, and open the connection pool, which connects when it is first used."""
        await asyncio.to_thread(_load_store)
        from messaging.store.engine import open_engine
        from messaging.store.reader import HistoryReader

        engine = open_engine(url)
        stack.push_async_callback(engine.dispose)
        self.provide(HistoryReader(engine))

    def provide(self, history: Stored) -> None:
        """Read from this history from now on."""
        self._history = history
        self._loaded.set()

    async def _when_loaded(self) -> Stored:
        if self._history is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._loading_s):
                    await self._loaded.wait()
        if self._history is None:
            raise StoreDown("starting")
        return self._history


def _load_store() -> None:
    import messaging.store.reader  # noqa: F401
