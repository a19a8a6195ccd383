"""The 95 % interval of a mean over seeds."""

import math
import statistics
from collections.abc import Sequence

# Student's t at .975 for 1 to 9 degrees of freedom (any table of the distribution, such as Abramowitz & Stegun 1964, 26.10).
QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
NORMAL = 1.96


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of values of equal standing, n - 1 degrees of freedom; None of a single one.

    With three seeds its half width is 4.303 sd / sqrt(3) = 2.48 sd. Beyond ten values 1.96 standard errors.
    """
    count = len(values)
    if count < 2:
        return None
    quantile = QUANTILES[count - 2] if count - 2 < len(QUANTILES) else NORMAL
    half = quantile * statistics.stdev(values) / math.sqrt(count)
    mean = statistics.fmean(values)
    return mean - half, mean + half
