"""The pods of a provider agree on its breaker: at once after a hint, within a second without one."""

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
PROVIDERS = [Provider(name=PROVIDER, adapter="mock", url="http://localhost")]


@pytest.fixture
async def pods(connection: Connection) -> tuple[BreakerSync, BreakerSync]:
    board = BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))
    revision, _ = await board.breaker(PROVIDER)  # what an earlier test has left
    await board.set_breaker(PROVIDER, BreakerState(), revision)
    one, other = (BreakerSync(board, PROVIDER, Breaker(name, BreakerLimits(failures=1)), Mock()) for name in ("a", "b"))
    for pod in (one, other):
        await pod.refresh()
        assert pod.state.mode is Mode.CLOSED
    return one, other


async def until_open(pod: BreakerSync) -> float:
    """Return the seconds until the pod had read that the breaker is open."""
    began = time.monotonic()
    while pod.state.mode is not Mode.OPEN:
        assert time.monotonic() < began + 10
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_breaker_that_one_pod_opens_is_open_at_once_for_the_other_pod_and_for_routing(
    connection: Connection, pods: tuple[BreakerSync, BreakerSync], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_REFRESH_EVERY_S", 3600)
    one, other = pods
    view = FleetView(connection, PROVIDERS, 1.0, breakers_every_s=3600)
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


async def test_lost_notification_delays_the_other_pod_by_less_than_a_second(
    pods: tuple[BreakerSync, BreakerSync], monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshed = asyncio.Event()

    class NoChanges(Changes):
        async def wait(self, at_most_s: float) -> None:
            refreshed.set()
            await super().wait(at_most_s)

    @contextlib.asynccontextmanager
    async def no_changes(_bucket: Bucket, _pattern: str) -> AsyncIterator[Changes]:
        yield NoChanges()

    monkeypatch.setattr(Bucket, "changes", no_changes)
    one, other = pods
    following = asyncio.create_task(other.run())
    await refreshed.wait()
    one.record(one.begin(), failed=True)
    await until_open(one)
    assert await until_open(other) < 1.0
    following.cancel()
