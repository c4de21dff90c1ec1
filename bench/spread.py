"""How repeated measurements lie: quantiles, spreads, and ratios of what was measured in the same round. Pure."""

import math
from collections.abc import Sequence

import attrs


@attrs.frozen
class Spread:
    """Five numbers for a row of repetitions, and how many there were."""

    low: float
    lower: float
    middle: float
    upper: float
    high: float
    count: int


def quantile(values: Sequence[float], part: float) -> float:
    """Give the value below which `part` (0 to 1) of all lie, between neighbours by proportion; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values: Sequence[float]) -> Spread:
    """Sum repetitions up."""
    low, lower, middle, upper, high = (quantile(values, part) for part in (0.0, 0.25, 0.5, 0.75, 1.0))
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
