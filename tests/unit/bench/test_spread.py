import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.spread import quantile, ratios, shown, spread

NUMBERS = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30)


@given(NUMBERS)
def test_spread_stands_in_order_between_the_extremes(values: list[float]) -> None:
    found = spread(values)
    assert min(values) == found.low <= found.lower <= found.middle <= found.upper <= found.high == max(values)
    assert found.count == len(values)


@pytest.mark.parametrize(
    ("values", "part", "wanted"),
    [([3.0], 0.99, 3.0), ([1, 2], 0.5, 1.5), ([4, 1, 3, 2], 0.0, 1), ([4, 1, 3, 2], 1.0, 4), ([0, 10], 0.25, 2.5)],
)
def test_quantile_lies_between_neighbours_by_proportion(values: list[float], part: float, wanted: float) -> None:
    assert quantile(values, part) == pytest.approx(wanted)


def test_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))


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
