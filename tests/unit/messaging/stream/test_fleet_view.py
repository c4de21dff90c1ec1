"""What the fleet view gives to routing."""

from unittest import mock
from unittest.mock import Mock

import pytest

from messaging.documents import BreakerState, Mode
from messaging.runtime.providers_file import Provider
from messaging.stream.fleet import FleetView

PROVIDERS = [Provider(name, "simulated", "http://localhost") for name in ("p1", "p2")]


def test_facts_are_those_of_the_latest_breakers_and_backlog() -> None:
    view = FleetView(Mock(), PROVIDERS, room_s=2.0)
    first = view.facts()
    assert view.facts() is first
    view.backlog = {"p1": 3, "p2": 0}
    assert view.facts()["p1"].backlog == 3
    view.breakers = {"p2": BreakerState(Mode.OPEN)}
    assert [one.breaker_open for one in view.facts().values()] == [False, True]
    view.breakers = {name: BreakerState(Mode.HALF_OPEN) for name in ("p1", "p2")}
    assert [one.breaker_open for one in view.facts().values()] == [True, False], "a waiting message is the probe"
    view.backlog = {"p1": 0, "p2": 0}
    assert not view.facts()["p1"].breaker_open


@pytest.mark.parametrize(
    ("before", "counted", "after", "uncounted"),
    [(5, 5, 5, 0), (5, 7, 9, 0), (9, 7, 5, 0), (9, 7, 9, 2)],
    ids=["still", "growing", "shrinking", "two without a consumer"],
)
async def test_queue_that_grows_or_shrinks_is_not_taken_for_one_with_messages_that_nobody_serves(
    before: int, counted: int, after: int, uncounted: int
) -> None:
    view, sizes = FleetView(Mock(), PROVIDERS, room_s=2.0), iter([before, after])

    async def queued() -> int:
        return next(sizes)

    async def refresh() -> None:
        view.backlog = {"p1": counted}

    with mock.patch.object(view, "_queued", queued), mock.patch.object(view, "refresh_backlog", refresh):
        assert await view.uncounted() == uncounted
