"""Schedules of the rate of published settings."""

import pytest

from tasks.runs.loop import factor_of
from tasks.sparse.schedules import fifths


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1), (29_999, 1), (30_000, 0.2), (60_000, 0.04), (90_000, 0.008), (97_655, 0.008)]
)
def test_the_rate_drops_to_a_fifth(step: int, factor: float) -> None:
    assert fifths(step / 97_656) == pytest.approx(factor)
    assert factor_of("tasks.sparse.schedules.fifths")(step / 97_656) == pytest.approx(factor)
