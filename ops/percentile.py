"""Percentiles of measured values. Pure."""

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile (0 to 100), interpolated linearly between neighbours; NaN when there are no values."""
    if len(values) < 2:
        return values[0] if values else math.nan
    return (min(values), *statistics.quantiles(values, n=100, method="inclusive"), max(values))[percent]
