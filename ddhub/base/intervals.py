"""Student's t interval of a mean, the only formula of it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

QUANTILE = 0.975  # of a two-sided 95% interval


class Mean(NamedTuple):
    """A mean with its sample standard deviation and 95% interval. A single value has neither."""

    mean: float
    std: float | None
    ci95: tuple[float, float] | None


def of_mean(values: Sequence[float]) -> Mean:
    """Mean, sample standard deviation and Student's 95% interval of the mean of one value or more."""
    from scipy import special

    n, mean = len(values), sum(values) / len(values)
    if n == 1:
        return Mean(mean, None, None)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(special.stdtrit(n - 1, QUANTILE)) * std / math.sqrt(n)
    return Mean(mean, std, (mean - half, mean + half))
