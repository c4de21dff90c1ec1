"""A watcher sees every change at once by hints, and all the same when hints are lost, early or garbage."""

import asyncio
import time

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire

from gateway_grpc.event_hints import EventHints
from messaging.model import Address, key_from_bytes, new_address
from messaging.runtime.config import Settings
from messaging.stream import topology as topo
from tests.memory_stream import MemoryConnection, MemoryStream
from tests.unit.virtual_time import in_virtual_time

ADDRESS = new_address("default", 1_700_000_000_000, key_from_bytes(b"0123456789"))
OTHER = new_address("default", 1_700_000_000_001, key_from_bytes(b"9876543210"))


def a_connection() -> MemoryConnection:
    return MemoryConnection(MemoryStream(Settings(), ["p1"], time.time))


async def publish(connection: MemoryConnection, address: Address, nonce: str) -> wire.Event:
    event = wire.Event(message_id=address.message_id, client=address.client, nonce=nonce)
    await connection.publish(topo.event_subject(address), event.SerializeToString())
    return event


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def took(hints: EventHints, watched: object) -> float:
    began = asyncio.get_running_loop().time()
    await hints.wait(watched)  # type: ignore[arg-type]
    return asyncio.get_running_loop().time() - began


@in_virtual_time
async def test_an_event_wakes_the_watchers_of_its_message_and_no_others() -> None:
    connection = a_connection()
    hints = EventHints(connection, least_s=50.0)
    following = asyncio.create_task(hints.run())
    with hints.watching(ADDRESS) as one, hints.watching(ADDRESS) as two, hints.watching(OTHER) as other:
        await settle()
        for watched in (one, two, other):
            watched.changed.clear()
        await publish(connection, ADDRESS, "n1")
        assert (one.changed.is_set(), two.changed.is_set(), other.changed.is_set()) == (True, True, False)
        assert await took(hints, one) == 0
        assert await took(hints, other) == 50.0
    following.cancel()


@in_virtual_time
async def test_nothing_is_subscribed_to_while_nobody_watches() -> None:
    connection = a_connection()
    hints = EventHints(connection)
    following = asyncio.create_task(hints.run())
    await settle()
    assert connection.stream.listeners == []
    with hints.watching(ADDRESS):
        await settle()
        assert [subject for subject, _ in connection.stream.listeners] == ["sms.event.>"]
    await settle()
    assert connection.stream.listeners == []
    following.cancel()


@in_virtual_time
async def test_a_hint_that_comes_before_its_event_is_looked_after_soon_and_not_for_ever() -> None:
    connection = a_connection()
    hints = EventHints(connection, least_s=50.0)
    following = asyncio.create_task(hints.run())
    with hints.watching(ADDRESS) as watched:
        await settle()
        event = await publish(connection, ADDRESS, "n1")
        pauses = []
        for _ in range(5):
            watched.changed.clear()
            watched.seen(None)
            pauses.append(await took(hints, watched))
        assert pauses == pytest.approx([0.02, 0.1, 0.5, 2.0, 50.0])
        await publish(connection, ADDRESS, "n2")
        watched.changed.clear()
        watched.seen(event)
        assert await took(hints, watched) == pytest.approx(0.02), "n2 is not seen yet"
        watched.seen(wire.Event(nonce="n2"))
        assert await took(hints, watched) == 50.0
    following.cancel()


@in_virtual_time
async def test_garbage_as_an_event_is_a_hint_like_any_other() -> None:
    connection = a_connection()
    hints = EventHints(connection, least_s=50.0)
    following = asyncio.create_task(hints.run())
    with hints.watching(ADDRESS) as watched:
        await settle()
        watched.changed.clear()
        await connection.publish(topo.event_subject(ADDRESS), b"\xff\xff{")
        assert watched.changed.is_set()
    following.cancel()


@in_virtual_time
async def test_many_watchers_look_as_often_together_as_few() -> None:
    hints = EventHints(a_connection(), looks_per_s=50.0, least_s=1.0)
    with hints.watching(ADDRESS) as first:
        assert await took(hints, first) == 1.0
        others = [hints.watching(OTHER) for _ in range(4999)]
        for one in others:
            one.__enter__()
        assert await took(hints, first) == 100.0
        for one in others:
            one.__exit__(None, None, None)


@in_virtual_time
async def test_following_begins_again_when_the_stream_is_back() -> None:
    connection = a_connection()
    hints = EventHints(connection, least_s=50.0)
    following = asyncio.create_task(hints.run())
    connection.cut()
    with hints.watching(ADDRESS) as watched:
        await settle()
        assert not connection.stream.listeners
        connection.mend()
        await asyncio.sleep(1.1)
        assert watched.changed.is_set(), "what happened meanwhile is looked at"
        assert connection.stream.listeners
    following.cancel()
