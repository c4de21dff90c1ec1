"""Pods of one provider agree on its breaker: by a hint at once, and without one within a second."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from unittest.mock import Mock

import pytest

from dispatcher.breaker import sync
from dispatcher.breaker.breaker import Breaker, BreakerLimits
from dispatcher.breaker.sync import BreakerSync
from messaging.documents import BreakerState, Mode
from messaging.runtime.providers_file import Provider
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket, Changes
from messaging.stream.fleet import FleetView
from messaging.stream.interface import Connection

PROVIDER = "p1"
VIEW_OF = [Provider(name=PROVIDER, adapter="mock", url="http://localhost")]


@pytest.fixture
async def pods(connection: Connection) -> tuple[BreakerSync, BreakerSync]:
    board = BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))
    await board.set_breaker(PROVIDER, BreakerState(), 0)
    one, other = (BreakerSync(board, PROVIDER, Breaker(pod, BreakerLimits(failures=1)), Mock()) for pod in ("a", "b"))
    for guard in (one, other):
        await guard.refresh()
    return one, other


async def until_open(guard: BreakerSync) -> float:
    """Give the seconds that it took until the guard's pod knew."""
    began = time.monotonic()
    while guard.state.mode is not Mode.OPEN:
        assert time.monotonic() < began + 10
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_a_breaker_that_one_pod_opens_is_open_for_the_other_and_for_routing_by_a_hint(
    connection: Connection, pods: tuple[BreakerSync, BreakerSync], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_EVERY_S", 3600)
    one, other = pods
    view = FleetView(connection, VIEW_OF, 1.0, breakers_every_s=3600)
    following = [asyncio.create_task(work) for work in (other.run(), view.run())]
    await asyncio.sleep(0.3)
    one.record(one.begin(), failed=True)
    await until_open(other)
    end = time.monotonic() + 10
    while not view.facts()[PROVIDER].breaker_open:
        assert time.monotonic() < end
        await asyncio.sleep(0.005)
    for task in following:
        task.cancel()


async def test_a_lost_notification_costs_less_than_a_second(
    pods: tuple[BreakerSync, BreakerSync], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.asynccontextmanager
    async def deaf(_bucket: Bucket, _pattern: str) -> AsyncIterator[Changes]:
        yield Changes()

    monkeypatch.setattr(Bucket, "changes", deaf)
    one, other = pods
    following = asyncio.create_task(other.run())
    one.record(one.begin(), failed=True)
    await until_open(one)
    assert await until_open(other) < 1.0
    following.cancel()
