"""Another leader of the work queue is asked for when its sources have stalled, and only then."""

from typing import Any

from dispatcher.duties.source_watch import SourceHealth

SECOND = 1_000_000_000
ALIVE, SILENT, NEVER = SECOND // 2, 9 * SECOND, -1


def a_queue(leader: str = "one", replicas: int = 2, **active: int) -> dict[str, Any]:
    sources = [{"name": name, "active": since} for name, since in active.items()]
    return {"cluster": {"leader": leader, "replicas": [{}] * replicas}, "sources": sources}


def test_active_sources_are_never_reported() -> None:
    health = SourceHealth()
    assert [health.stalled(a_queue(accept=ALIVE, later=ALIVE), now) for now in range(20)] == [[]] * 20


def test_source_that_stays_silent_is_reported_after_the_patience() -> None:
    health = SourceHealth(silent_s=2.5, patience_s=2)
    queue = a_queue(accept=SILENT, later=ALIVE)
    assert [health.stalled(queue, now) for now in (0.0, 1.0, 1.9, 2.0)] == [[], [], [], ["accept"]]


def test_source_that_was_never_active_counts_as_silent() -> None:
    health = SourceHealth(patience_s=2)
    health.stalled(a_queue(accept=NEVER), 0)
    assert health.stalled(a_queue(accept=NEVER), 2) == ["accept"]


def test_patience_starts_again_with_a_new_leader_after_activity_and_after_a_report() -> None:
    health = SourceHealth(patience_s=2)
    reports = [
        health.stalled(a_queue(leader, accept=active), now)
        for now, leader, active in [
            (0.0, "one", SILENT),
            (1.5, "two", NEVER),
            (3.0, "two", ALIVE),
            (4.0, "two", SILENT),
            (5.9, "two", SILENT),
        ]
    ]
    assert reports == [[]] * 5
    assert health.stalled(a_queue("two", accept=SILENT), 6) == ["accept"]
    assert health.stalled(a_queue("two", accept=SILENT), 7.9) == []
    assert health.stalled(a_queue("two", accept=SILENT), 8) == ["accept"]


def test_nothing_is_reported_without_replicas_or_without_a_leader() -> None:
    health = SourceHealth(patience_s=2)
    alone, leaderless = a_queue(replicas=0, accept=SILENT), a_queue(leader="", accept=SILENT)
    assert [health.stalled(alone, now) for now in range(9)] == [[]] * 9
    assert [health.stalled(leaderless, now) for now in range(9)] == [[]] * 9
    assert [health.stalled({"sources": [{"name": "accept", "active": NEVER}]}, now) for now in range(9)] == [[]] * 9
