"""A message that cannot be sent in time makes way for others, and says what stood in its way."""

import pytest

from dispatcher.work.shedding import LEAST_S, Traffic
from messaging.documents import BreakerState, Mode

QUIET = Traffic("p1", BreakerState(), 0.0, 50, 3)
BUSY = Traffic("p1", BreakerState(), 0.0, 50, 5000)


@pytest.mark.parametrize(
    ("traffic", "left_s", "late"),
    [
        (QUIET, 60, False),
        (QUIET, LEAST_S / 2, False),
        (QUIET, 0, True),
        (BUSY, 60, False),
        (BUSY, LEAST_S, False),
        (BUSY, LEAST_S / 2, True),
        (BUSY, -1, True),
    ],
)
def test_message_is_shed_only_when_it_is_late_and_others_wait(traffic: Traffic, left_s: float, *, late: bool) -> None:
    assert traffic.is_too_late(left_s) is late


@pytest.mark.parametrize(
    ("traffic", "part"),
    [
        (BUSY, "5,000 messages wait for p1, of which this pod sends 50 a second"),
        (Traffic("p1", BreakerState(Mode.OPEN, 1, "5 failures in a row"), 0.0, 50, 9), "open (5 failures in a row)"),
        (Traffic("p1", BreakerState(Mode.HALF_OPEN, 2), 0.0, 50, 9), "half-open"),
        (Traffic("p1", BreakerState(), 40.0, 50, 9), "asked for a pause, which lasts 40 s more"),
        (Traffic("p1", BreakerState(), 0.0, 0, 9), "has no share of the rate"),
    ],
)
def test_what_stood_in_the_way_is_said(traffic: Traffic, part: str) -> None:
    assert part in traffic.why_ended(0.0)
    assert part in traffic.why_ended(0.4)
    assert traffic.why_ended(0.4).startswith("shed 0.4 s before its deadline")


def test_without_an_obstacle_nothing_is_made_up() -> None:
    assert QUIET.why_ended(-3.0) == "the deadline passed before a provider took it"
