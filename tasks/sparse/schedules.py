"""Schedules of the rate as they were published with rules of sparse training."""

DROPS = (30_000 / 97_656, 60_000 / 97_656, 90_000 / 97_656)


def fifths(done: float) -> float:
    """A fifth from 30,000, 60,000 and 90,000 of 97,656 steps on (Evci et al. 2020, appendix, CIFAR-10).

    Args:
        done: the share of steps done, [0, 1).

    """
    return float(0.2 ** sum(done >= drop for drop in DROPS))
