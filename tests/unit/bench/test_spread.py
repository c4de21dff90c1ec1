import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.spread import ratios, shown, spread

NUMBERS = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30)


@given(NUMBERS)
def test_spread_stands_in_order_between_the_extremes_but_for_rounding(values: list[float]) -> None:
    found = spread(values)
    row = (found.low, found.lower, found.middle, found.upper, found.high)
    assert all(one <= other or one == pytest.approx(other, rel=1e-12) for one, other in itertools.pairwise(row))
    assert (found.low, found.high) == (min(values), max(values))
    assert found.count == len(values)


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert math.isnan(ratios([1.0], [0.0])[0])
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (0.85, "0.850"),
        (7.456, "7.46"),
        (99.96, "100.0"),
        (123.4, "123"),
        (15_844.3, "15,800"),
        (math.nan, "–"),
    ],
)
def test_numbers_are_shown_with_three_digits_that_count(value: float, text: str) -> None:
    assert shown(value) == text
