"""Statistics of repeated measurements: spreads, and ratios of values from the same round. Pure."""

import math
from collections.abc import Sequence

import attrs

from ops.percentile import percentile


@attrs.frozen
class Spread:
    """Minimum, quartiles, median and maximum of the repetitions, and their count."""

    low: float
    lower: float
    middle: float
    upper: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of repeated values."""
    low, lower, middle, upper, high = (percentile(values, percent) for percent in (0, 25, 50, 75, 100))
    return Spread(low, lower, middle, upper, high, len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: both values of a round were measured under the same disturbances."""
    return [mine / other if other else math.nan for mine, other in zip(ours, theirs, strict=True)]


def shown(value: float) -> str:
    """Format a number with three significant digits."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits else f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.0f}"
