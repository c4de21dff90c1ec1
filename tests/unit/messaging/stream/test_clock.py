"""A process's clock is compared with the stream's; a wrong one is not worked by."""

import time
from typing import Any, cast
from unittest import mock

import pytest

from messaging.stream.clock import Comparison, StreamClock, sentence, stream_time
from messaging.stream.interface import Connection
from ops.commands.servers import right_time
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time

NOON = 1_800_000_000.0


@pytest.mark.parametrize(
    ("before", "stream", "after", "ahead_s"),
    [
        (NOON, NOON, NOON, 0.0),
        (NOON, NOON + 0.1, NOON + 0.2, 0.0),
        (NOON + 3600, NOON, NOON + 3600.1, 3600.0),
        (NOON - 5, NOON, NOON - 4, -4.0),
        # A slow answer: whatever may be the delay of the network is no difference of clocks.
        (NOON - 30, NOON, NOON, 0.0),
        (NOON, NOON, NOON + 30, 0.0),
    ],
)
def test_only_what_the_network_cannot_explain_is_a_difference(
    before: float, stream: float, after: float, ahead_s: float
) -> None:
    assert Comparison(before, stream, after).ahead_s == pytest.approx(ahead_s, abs=1e-6)


@pytest.mark.parametrize("answer", [{}, {"ts": None}, {"ts": 7}, {"ts": "soon"}, {"ts": "9" * 400}, {"ts": ["x"]}])
def test_answer_without_a_readable_time_compares_nothing(answer: dict[str, Any]) -> None:
    assert stream_time(answer) is None


def test_nanoseconds_and_zones_are_read() -> None:
    assert stream_time({"ts": "2027-01-15T08:00:00.123456789Z"}) == pytest.approx(NOON + 0.123456, abs=1e-6)
    assert stream_time({"ts": "2027-01-15T09:00:00+01:00"}) == NOON


@pytest.mark.parametrize(("skew_s", "right"), [(0, True), (1.9, True), (-1.9, True), (2.1, False), (-3600, False)])
def test_two_seconds_are_allowed_and_no_more(skew_s: float, right: bool) -> None:  # noqa: FBT001
    @in_virtual_time
    async def compare() -> None:
        clock = StreamClock(SmallFleet().caller.connection, lambda: time.time() + skew_s)
        await clock.compare()
        assert clock.right is right
        assert clock.ahead_s == pytest.approx(skew_s, abs=0.01)

    compare()


@in_virtual_time
async def test_time_goes_on_when_the_clock_is_set_and_follows_it_only_after_a_comparison() -> None:
    skew = [0.0]
    clock = StreamClock(SmallFleet().caller.connection, lambda: time.time() + skew[0])
    await clock.compare()
    skew[0] = 3600.0
    assert clock.now() == pytest.approx(time.time(), abs=0.01)
    await clock.compare()
    assert not clock.right
    assert clock.now() == pytest.approx(time.time(), abs=0.01)
    skew[0] = 0.5
    await clock.compare()
    assert clock.right
    assert clock.now() == pytest.approx(time.time() + 0.5, abs=0.01)


@in_virtual_time
async def test_server_that_tells_no_time_changes_nothing() -> None:
    class Silent:
        async def api(self, _verb: str) -> dict[str, Any]:
            return {}

    clock = StreamClock(cast("Connection", Silent()))
    await clock.compare()
    assert clock.right


@in_virtual_time
async def test_deadline_that_an_operator_sets_does_not_depend_on_the_clock_of_the_operators_machine() -> None:
    connection, right = SmallFleet().caller.connection, time.time
    with mock.patch.object(time, "time", side_effect=lambda: right() + 3600):
        assert await right_time(connection) == pytest.approx(right(), abs=0.1)


def test_sentence_says_how_far_which_way_and_the_cure() -> None:
    assert "3600.0 s ahead of" in sentence(3600)
    assert "5.0 s behind" in sentence(-5)
    assert "NTP" in sentence(-5)
