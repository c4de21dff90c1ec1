"""How repeated measurements lie: spreads, and ratios of what was measured in the same round. Pure."""

import math
from collections.abc import Sequence

import attrs

from ops.percentile import percentile


@attrs.frozen
class Spread:
    """Five numbers for a row of repetitions, and how many there were."""

    low: float
    lower: float
    middle: float
    upper: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Sum repetitions up."""
    low, lower, middle, upper, high = (percentile(values, percent) for percent in (0, 25, 50, 75, 100))
    return Spread(low, lower, middle, upper, high, len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: both were measured in the same one, so that what disturbed it disturbed both."""
    return [mine / other if other else math.nan for mine, other in zip(ours, theirs, strict=True)]


def shown(value: float) -> str:
    """Write a number with three significant digits, as people read it."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits else f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.0f}"
