"""The work queue is led by another server when its sources have dried up, and by the same one while they have not."""

from typing import Any

from dispatcher.duties.source_watch import SourceHealth

SECOND = 1_000_000_000
ALIVE, SILENT, NEVER = SECOND // 2, 9 * SECOND, -1


def a_queue(leader: str = "one", replicas: int = 2, **active: int) -> dict[str, Any]:
    sources = [{"name": name, "active": since} for name, since in active.items()]
    return {"cluster": {"leader": leader, "replicas": [{}] * replicas}, "sources": sources}


def test_a_source_that_is_heard_of_is_left_alone() -> None:
    feed = SourceHealth()
    assert [feed.stalled(a_queue(accept=ALIVE, later=ALIVE), now) for now in range(20)] == [[]] * 20


def test_a_source_that_stays_silent_is_named_when_patience_ends() -> None:
    feed = SourceHealth(silent_s=2.5, patience_s=2)
    queue = a_queue(accept=SILENT, later=ALIVE)
    assert [feed.stalled(queue, now) for now in (0.0, 1.0, 1.9, 2.0)] == [[], [], [], ["accept"]]


def test_a_source_that_was_never_heard_of_counts_as_silent() -> None:
    feed = SourceHealth(patience_s=2)
    feed.stalled(a_queue(accept=NEVER), 0)
    assert feed.stalled(a_queue(accept=NEVER), 2) == ["accept"]


def test_patience_begins_anew_with_a_new_leader_after_a_sign_of_life_and_after_asking() -> None:
    feed = SourceHealth(patience_s=2)
    told = [
        feed.stalled(a_queue(leader, accept=active), now)
        for now, leader, active in [
            (0.0, "one", SILENT),
            (1.5, "two", NEVER),
            (3.0, "two", ALIVE),
            (4.0, "two", SILENT),
            (5.9, "two", SILENT),
        ]
    ]
    assert told == [[]] * 5
    assert feed.stalled(a_queue("two", accept=SILENT), 6) == ["accept"]
    assert feed.stalled(a_queue("two", accept=SILENT), 7.9) == []
    assert feed.stalled(a_queue("two", accept=SILENT), 8) == ["accept"]


def test_nothing_is_asked_where_nobody_else_could_lead_or_nobody_leads() -> None:
    feed = SourceHealth(patience_s=2)
    alone, leaderless = a_queue(replicas=0, accept=SILENT), a_queue(leader="", accept=SILENT)
    assert [feed.stalled(alone, now) for now in range(9)] == [[]] * 9
    assert [feed.stalled(leaderless, now) for now in range(9)] == [[]] * 9
    assert [feed.stalled({"sources": [{"name": "accept", "active": NEVER}]}, now) for now in range(9)] == [[]] * 9
