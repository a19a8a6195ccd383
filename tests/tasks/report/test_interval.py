import math
import statistics

import pytest

from tasks.report.interval import QUANTILES, difference, interval


def test_three_values_have_the_interval_of_two_degrees() -> None:
    values = [0.96, 0.97, 0.95]
    low, high = interval(values) or (math.nan, math.nan)
    assert (low + high) / 2 == pytest.approx(0.96)
    assert (high - low) / 2 == pytest.approx(2.484 * statistics.stdev(values), rel=1e-3)


def test_one_value_has_none_and_more_than_ten_that_of_ten_degrees_at_least() -> None:
    assert interval([1.0]) is None
    assert interval([]) is None
    many = [float(i % 2) for i in range(30)]
    low, high = interval(many) or (math.nan, math.nan)
    assert high - low == pytest.approx(2 * QUANTILES[-1] * statistics.stdev(many) / math.sqrt(30))


def test_the_quantiles_are_those_of_the_t_distribution() -> None:
    # P(|T| > t) = 1 - 2 * integral of the density from 0 to t, by Simpson's rule.
    for degrees, t in enumerate(QUANTILES, start=1):
        scale = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
        steps = 20_000
        h = t / steps
        ys = [scale * (1 + (i * h) ** 2 / degrees) ** (-(degrees + 1) / 2) for i in range(steps + 1)]
        inside = 2 * h / 3 * (ys[0] + ys[-1] + 4 * sum(ys[1:-1:2]) + 2 * sum(ys[2:-1:2]))
        assert inside == pytest.approx(0.95, abs=5e-5)


def test_a_difference_is_paired_by_seed() -> None:
    low, high = difference([1.0, 2.0, 3.0], [0.5, 1.5, 2.5]) or (math.nan, math.nan)
    assert low == pytest.approx(high) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="zip"):
        difference([1.0], [1.0, 2.0])
