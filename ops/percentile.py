"""Percentiles of what was measured. Pure."""

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: int) -> float:
    """Give the value that `percent` (0 to 100) of all lie below, between neighbours by proportion; NaN of nothing."""
    if len(values) < 2:
        return values[0] if values else math.nan
    return (min(values), *statistics.quantiles(values, n=100, method="inclusive"), max(values))[percent]
