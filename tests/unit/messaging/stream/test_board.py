"""One bad document in a shared bucket stops no process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from structlog.testing import capture_logs

from messaging.documents import BreakerState, Lease, Mode
from messaging.stream.board import BreakerBoard, LimitsBoard
from messaging.stream.buckets import Bucket


class Kept:
    """A bucket with given documents, all at revision 7."""

    def __init__(self, **documents: Any) -> None:
        self.documents = {key.replace("__", "."): (7, value) for key, value in documents.items()}
        self.notify: Callable[[str, Any], None] = lambda *_: None

    async def get(self, key: str) -> tuple[int, Any]:
        return self.documents.get(key, (0, None))

    async def all(self, pattern: str) -> dict[str, tuple[int, Any]]:
        return {key: value for key, value in self.documents.items() if key.startswith(pattern.removesuffix("*"))}

    async def newest(self, _pattern: str) -> dict[str, tuple[int, Any]]:
        return self.documents

    @asynccontextmanager
    async def on_write(self, _pattern: str, notify: Callable[[str, Any], None]) -> AsyncIterator[None]:
        self.notify = notify
        yield


def bucket(**documents: Any) -> Bucket:
    return cast("Bucket", Kept(**documents))


async def test_an_unreadable_breaker_counts_as_closed_keeps_its_revision_and_is_logged_once() -> None:
    board = BreakerBoard(bucket(breaker__p1=b"{", breaker__p2={"state": "open"}))
    with capture_logs() as lines:
        assert await board.breaker("p1") == (7, BreakerState())
        assert await board.breakers() == {"p2": BreakerState(Mode.OPEN)}
        assert await board.breaker("p1") == (7, BreakerState())
    assert [line["log_level"] for line in lines] == ["error"]


async def test_an_unreadable_pause_counts_as_absent() -> None:
    assert await BreakerBoard(bucket(pause__p1={"pause_s": "long"})).pause("p1") == (7, None)


async def test_an_unreadable_table_counts_as_absent() -> None:
    assert await LimitsBoard(bucket(alloc={"version": 1})).table() == (7, None)


async def test_an_unreadable_leader_counts_as_absent() -> None:
    assert await LimitsBoard(bucket(leader=[])).leader() == (7, None)


async def test_an_unreadable_lease_does_not_hide_the_others() -> None:
    board = LimitsBoard(bucket(lease__a="x", lease__b=Lease("p1", 3).to_document()))
    assert await board.leases() == {"b": (7, Lease("p1", 3))}
    assert await board.lease("a") == (7, None)


async def test_newest_revision_of_a_provider_is_that_of_its_breaker_or_its_pause_also_when_it_was_deleted() -> None:
    kept = Kept(breaker__p1={"state": "open"}, breaker__p2=b"{")
    kept.documents |= {"pause.p1": (9, None), "pause.p3": (5, {"pause_s": 1.0})}
    states, revisions = await BreakerBoard(cast("Bucket", kept)).everything()
    assert states == {"p1": BreakerState(Mode.OPEN)}
    assert revisions == {"p1": 9, "p2": 7, "p3": 5}


async def test_a_notification_with_garbage_raises_nothing() -> None:
    kept, tables, leases = Kept(), list[Any](), list[Any]()
    board = LimitsBoard(cast("Bucket", kept))
    async with board.on_table(tables.append):
        kept.notify("alloc", b"{")
        kept.notify("alloc", None)
    async with board.on_lease(lambda pod, lease: leases.append((pod, lease))):
        kept.notify("lease.a", b"{")
        kept.notify("lease.a", Lease("p1", 3).to_document())
    assert (tables, leases) == ([None, None], [("a", Lease("p1", 3))])
