"""Reads of a history that is still loading."""

import asyncio

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.deferred_history import DeferredHistory
from messaging.errors import StoreDown


class Known:
    """A history of one message."""

    async def find(self, client: str, message_id: str) -> pb.MessageStatus | None:
        return pb.MessageStatus(message_id=message_id) if message_id == "one" else None

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        return wire.Command(message_id=message_id) if message_id == "one" else None

    async def find_by_request_id(self, client: str, request_id: str) -> pb.MessageStatus | None:
        return await self.find(client, request_id)

    async def list_page(
        self, client: str, request: api.ListMessagesRequest, after: str | None, limit: int
    ) -> list[pb.MessageStatus]:
        return [pb.MessageStatus(message_id="one")]


async def test_early_reads_wait_and_are_answered() -> None:
    history = DeferredHistory(loading_s=60.0)
    asked = [
        asyncio.create_task(history.find("default", "one")),
        asyncio.create_task(history.find("default", "other")),
        asyncio.create_task(history.find_by_request_id("default", "one")),
    ]
    listed = asyncio.create_task(history.list_page("default", api.ListMessagesRequest(), None, 10))
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in [*asked, listed])
    history.provide(Known())
    one = pb.MessageStatus(message_id="one")
    assert await asyncio.gather(*asked) == [one, None, one]
    assert await listed == [one]


async def test_reads_fail_when_the_history_does_not_load_in_time() -> None:
    history = DeferredHistory(loading_s=0.01)
    with pytest.raises(StoreDown, match="starting"):
        await history.find("default", "one")
    history.provide(Known())
    assert await history.find("default", "one") is not None
