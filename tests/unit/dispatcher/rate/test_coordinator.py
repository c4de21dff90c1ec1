"""What the coordinator reads about a pod that seems silent."""

from typing import Any, cast

from dispatcher.rate.allocator import Allocator, Timing
from dispatcher.rate.coordinator import Coordinator
from messaging.documents import Grant, Lease, Table
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket

TIMING = Timing()


class LaggingBucket:
    """A replica that still shows the first renewal, and a leader that has the newest."""

    def __init__(self, leader: dict[str, tuple[int, Any]]) -> None:
        self.asked: list[str] = []
        self._leader = leader

    async def all(self, _pattern: str) -> dict[str, tuple[int, Any]]:
        return {key: (1, Lease("p1", 50).to_document()) for key in self._leader}

    async def get(self, key: str) -> tuple[int, Any]:
        self.asked.append(key)
        return self._leader[key]


async def test_lease_of_a_silent_pod_is_read_from_the_leader_before_the_pod_is_removed(monkeypatch) -> None:
    bucket = LaggingBucket({"lease.a": (9, Lease("p1", 50).to_document())})
    coordinator = Coordinator(LimitsBoard(cast("Bucket", bucket)), "c", 200, {"p1": 50}, TIMING)
    allocator = Allocator(200, {"p1": 50}, Table(1, {"a": Grant("p1", 50, 50)}), 0.0, TIMING)
    allocator.observe({"a": (1, Lease("p1", 50))}, 0.0)
    now = TIMING.lease_s + TIMING.window_s + TIMING.guard_s + 0.1
    monkeypatch.setattr("time.monotonic", lambda: now)
    allocator.observe(await coordinator._leases(allocator), now)
    assert bucket.asked == ["lease.a"]
    assert allocator.step(now).grants["a"].share == 50


async def test_lease_of_a_pod_that_renews_is_not_read_from_the_leader(monkeypatch) -> None:
    bucket = LaggingBucket({"lease.a": (9, Lease("p1", 50).to_document())})
    coordinator = Coordinator(LimitsBoard(cast("Bucket", bucket)), "c", 200, {"p1": 50}, TIMING)
    allocator = Allocator(200, {"p1": 50}, Table(1, {"a": Grant("p1", 50, 50)}), 0.0, TIMING)
    monkeypatch.setattr("time.monotonic", lambda: 0.5)
    await coordinator._leases(allocator)
    assert bucket.asked == []
