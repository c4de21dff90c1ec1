"""Messages are handed to their handler as they are read."""

import asyncio
import time

from nats.aio.msg import Msg

from messaging.stream.connection import open_connection
from ops.embedded import NatsServer


async def until_there(found: list[Msg], count: int) -> None:
    end = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < end, f"only {len(found)} of {count} have come"
        await asyncio.sleep(0.01)


async def test_messages_are_handed_over_in_order_with_all_their_parts(nats_server: NatsServer) -> None:
    found: list[Msg] = []
    async with open_connection(nats_server.url, "a") as one:
        await one.client.listen("hear.*", found.append)
        for n in range(100):
            await one.client.publish(f"hear.{n}", str(n).encode(), "reply.to", {"Number": str(n)})
        await until_there(found, 100)
    assert [(msg.subject, msg.data, msg.reply, msg.headers) for msg in found] == [
        (f"hear.{n}", str(n).encode(), "reply.to", {"Number": str(n)}) for n in range(100)
    ]


async def test_nothing_is_handed_over_after_unsubscribing(nats_server: NatsServer) -> None:
    first: list[Msg] = []
    second: list[Msg] = []
    async with open_connection(nats_server.url, "a") as one:
        ended = await one.client.listen("hear.both", first.append)
        await one.client.listen("hear.both", second.append)
        await one.client.publish("hear.both", b"1")
        await until_there(first, 1)
        await until_there(second, 1)
        await ended.unsubscribe()
        await one.client.publish("hear.both", b"2")
        await until_there(second, 2)
        assert len(one.client._handlers) == 2, "the inbox of the requests, and the second subscription"
    assert ([msg.data for msg in first], [msg.data for msg in second]) == ([b"1"], [b"1", b"2"])
