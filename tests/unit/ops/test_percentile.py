import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.percentile import percentile


@pytest.mark.parametrize(
    ("values", "percent", "wanted"),
    [
        ([3.0], 0, 3.0),
        ([3.0], 50, 3.0),
        ([3.0], 99, 3.0),
        ([3.0], 100, 3.0),
        ([1, 2], 0, 1),
        ([2, 1], 50, 1.5),
        ([2, 1], 99, 1.99),
        ([1, 2], 100, 2),
        ([0, 10], 25, 2.5),
        ([4, 1, 3, 2], 0, 1),
        ([4, 1, 3, 2], 100, 4),
        ([3, 1, 2], 50, 2),
        (range(101), 99, 99),
        (range(201), 99, 198),
    ],
)
def test_percentile_lies_between_neighbours_by_proportion(values: Sequence[float], percent: int, wanted: float) -> None:
    assert percentile(values, percent) == pytest.approx(wanted)


def test_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 50))


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=30))
def test_percentiles_climb_from_the_least_to_the_most(values: list[int]) -> None:
    found = [percentile(values, percent) for percent in range(101)]
    assert found == sorted(found)
    assert (found[0], found[100]) == (min(values), max(values))
