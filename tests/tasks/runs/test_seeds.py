"""Seeds that are derived from one seed."""

import itertools

from tasks.runs.seeds import derive, seeds


def test_derived_seeds_are_spread_and_repeatable():
    found = [derive(word, seed) for word, seed in itertools.product(("a", "b"), range(100))]
    assert len({seed % 2**32 for seed in found}) == 200
    assert all(0 <= seed < 2**63 for seed in found)
    assert derive("a", 1) == found[1]
    assert derive("a", 12) != derive("a1", 2)


def test_the_seeds_of_a_run_are_independent_of_one_another():
    assert list(seeds(0)) == ["target", "source", "data", "sampling"]
    assert len({value for seed in range(50) for value in seeds(seed).values()}) == 200
