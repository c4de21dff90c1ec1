"""What waits is counted with few questions, and a queue that moves meanwhile is counted right."""

import asyncio
from typing import Any, cast

import pytest

from messaging.stream import setup
from messaging.stream.backlog import BacklogCounter
from messaging.stream.interface import Connection
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


class Answering:
    """A server whose queue has these sizes, one after the other, and `counted` messages of one consumer."""

    def __init__(self, sizes: list[int], counted: int) -> None:
        self._sizes = iter(sizes)
        self._counted = counted

    async def api(self, verb: str, _body: object = None) -> dict[str, Any]:
        if verb.startswith("STREAM.INFO"):
            return {"state": {"messages": next(self._sizes), "consumer_count": 1}}
        if verb.startswith("CONSUMER.LIST"):
            return {"total": 1, "consumers": [{"name": "dispatch-p1-otp", "num_pending": self._counted}]}
        return {"storage": 7}


@pytest.mark.parametrize(
    ("before", "counted", "after", "uncounted"),
    [(5, 5, 5, 0), (5, 7, 9, 0), (9, 7, 5, 0), (9, 7, 9, 2)],
    ids=["still", "growing", "shrinking", "two without a consumer"],
)
async def test_queue_that_grows_or_shrinks_is_not_taken_for_one_with_messages_that_nobody_serves(
    before: int, counted: int, after: int, uncounted: int
) -> None:
    found = await BacklogCounter(cast("Connection", Answering([before, after], counted)), "c").count()
    assert (found.of_each(), found.uncounted, found.storage_bytes) == ({"p1": counted}, uncounted, 7)


@in_virtual_time
async def test_consumers_are_listed_only_while_something_waits_or_when_one_was_added() -> None:
    fleet = SmallFleet()
    asked: list[str] = []
    connection = fleet.caller.connection
    api = connection.api

    async def noted(verb: str, *rest: Any, **named: Any) -> dict[str, Any]:
        asked.append(verb)
        return await api(verb, *rest, **named)

    connection.api = noted  # type: ignore[method-assign]
    counter = BacklogCounter(connection, "c")

    async def lists() -> tuple[int, dict[str, int]]:
        asked.clear()
        found = await counter.count()
        return sum(verb.startswith("CONSUMER.LIST") for verb in asked), found.of_each()

    assert await lists() == (1, {"p1": 0, "p2": 0})
    assert await lists() == (0, {"p1": 0, "p2": 0})
    await setup.ensure_queue(connection, fleet.settings, "p3")
    assert await lists() == (1, {"p1": 0, "p2": 0, "p3": 0})
    await fleet.accept("a", provider="p2")
    await asyncio.sleep(1)
    assert await lists() == (1, {"p1": 0, "p2": 1, "p3": 0})
    assert await lists() == (1, {"p1": 0, "p2": 1, "p3": 0})
    await fleet.close()
