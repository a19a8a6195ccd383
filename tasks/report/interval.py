"""How far a mean of a few seeds may be from the mean of all: Student's interval."""

import math
import statistics
from collections.abc import Sequence

# Student's t for n - 1 degrees of freedom at 97.5 %, n = 2 ... 10 (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2).
QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of ``values``, lower and upper end in their unit; None for fewer than two values.

    ``mean +- t(n - 1) * sd / sqrt(n)``, sd with n - 1 in its denominator: 2.48 sd on each side for three values. It takes
    the values for independent draws of a normal distribution. Beyond ten values t is that of ten: a little too wide, never
    too narrow.
    """
    if len(values) < 2:
        return None
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    half = QUANTILES[min(len(values), len(QUANTILES) + 1) - 2] * spread / math.sqrt(len(values))
    return mean - half, mean + half


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean difference ``values - others``, paired: both in the order of the same seeds.

    ValueError for sequences of different length; None for fewer than two pairs.
    """
    return interval([value - other for value, other in zip(values, others, strict=True)])
