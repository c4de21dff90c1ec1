"""A document of the shared buckets reads back as its value; anything else raises a CorruptRecord with its key."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging import documents
from messaging.documents import Backlog, BreakerState, Grant, Lease, Mode, Pause, Table
from messaging.errors import CorruptRecord

VALUES: list[tuple[Any, documents.Reader[Any]]] = [
    (BreakerState(), documents.read_breaker),
    (BreakerState(Mode.OPEN, 7, "why", forced=True), documents.read_breaker),
    (BreakerState(Mode.HALF_OPEN, 8, "why", probe="pod-1"), documents.read_breaker),
    (BreakerState(Mode.OPEN, 9, until=1_700_000_030.5, since=1_700_000_000.5), documents.read_breaker),
    (Pause(2.5, 1_700_000_002.5, "throttled with code 429"), documents.read_pause),
    (Lease("p1", 50, 3, 12, 4711), documents.read_lease),
    (Lease("p1", 0, gone=True), documents.read_lease),
    (Table(3, {"a": Grant("p1", 20, 30, 2), "b": Grant("p2")}), documents.read_table),
    (Table(), documents.read_table),
    (Backlog("c"), documents.read_backlog),
    (Backlog("c", {"p1": {"otp": (3, 1)}, "p2": {}}, 2, 4711, 0.5, storage_limited=False), documents.read_backlog),
]
READERS = [
    documents.read_breaker,
    documents.read_pause,
    documents.read_lease,
    documents.read_table,
    documents.read_backlog,
    documents.read_leader,
]
GARBAGE: list[Any] = [
    b"{",
    [],
    "closed",
    7,
    True,
    None,
    {"state": "ajar"},
    {"state": 3},
    {"generation": -1},
    {"generation": 2**70},
    {"generation": "1"},
    {"forced": 1},
    {"provider": None, "demand": 1},
    {"provider": "p1", "demand": True},
    {"provider": "p1", "demand": 1.5},
    {"version": 1},
    {"version": 1, "grants": []},
    {"version": 1, "grants": {"a": []}},
    {"version": 1, "grants": {"a": {"provider": "p1", "share": "all"}}},
    {"pause_s": -1},
    {"pause_s": 1e308},
    {"pause_s": float("nan")},
    {"pause_s": True},
    {"pause_s": 1, "until": "late"},
    {"pause_s": 1, "reason": 5},
    {"since": -1},
    {"name": 1},
    {"by": "c", "waiting": {"p1": {"otp": [1]}}},
    {"by": "c", "waiting": {"p1": {"otp": [1, True]}}},
    {"by": "c", "waiting": {"p1": {"otp": [1, -1]}}},
    {"by": "c", "waiting": {"p1": {"otp": "12"}}},
    {"by": "c", "waiting": {"p1": 3}},
    {"by": "c", "waiting": {}, "storage_fill": -1},
    {"by": "c", "waiting": {}, "uncounted": 0.5},
]


@pytest.mark.parametrize(("value", "read"), VALUES)
def test_value_reads_back_from_its_document(value: Any, read: documents.Reader[Any]) -> None:
    document = json.loads(json.dumps(value.to_document()))
    assert read("key", document) == value
    assert read("key", {**document, "added_by_a_newer_version": 1}) == value


def test_an_empty_document_is_a_closed_breaker() -> None:
    assert documents.read_breaker("key", {}) == BreakerState()


def test_pause_and_leader_are_read() -> None:
    assert documents.read_pause("key", {"pause_s": 2}) == Pause(2.0), "as older versions write it"
    assert documents.read_leader("key", {"name": "c-1"}) == "c-1"


def test_pause_lasts_until_its_end_and_never_longer_than_its_seconds() -> None:
    pause = Pause(8.0, until=1000.0)
    assert [pause.left_s(now) for now in (992.0, 995.0, 1000.0, 1001.0)] == [8.0, 5.0, 0.0, 0.0]
    assert pause.left_s(900.0) == 8.0, "this machine's clock is behind"
    assert Pause(8.0).left_s(1000.0) == 8.0, "of an older version"


@pytest.mark.parametrize("document", GARBAGE, ids=repr)
def test_garbage_gives_a_value_or_a_corrupt_record_and_nothing_else(document: Any) -> None:
    def refuses(read: documents.Reader[Any]) -> bool:
        try:
            read("breaker.p1", document)
        except CorruptRecord as exc:
            return exc.subject == "breaker.p1"
        return False

    assert sum(map(refuses, READERS)) >= len(READERS) - 1, "garbage passes one reader at most"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["state", "generation", "grants", "version", "provider", "demand", "pause_s", "name", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_document_gives_a_value_or_a_corrupt_record(document: Any) -> None:
    for read in READERS:
        try:
            read("key", document)
        except CorruptRecord:
            continue
