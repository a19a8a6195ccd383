"""Meet in the middle is exact, many at once as well as one by one, and its errors follow the law."""

import re

import pytest
import torch

from neuromod import RefusedError
from neuromod.tickets import median_error_law, shared_subset_sum, subset_sum
from tests.tickets.slow import brute_force


def draws(count: int, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    targets = torch.rand(count, generator=rng, dtype=torch.float64) - 0.5
    u, v = (torch.rand(count, n, generator=rng, dtype=torch.float64) * 2 - 1 for _ in range(2))
    return targets, u * v


@pytest.mark.parametrize("n", range(1, 13))
def test_it_is_brute_force(n: int) -> None:
    targets, candidates = draws(6, n, seed=n)
    chosen, sums = subset_sum(targets, candidates)
    assert torch.allclose((chosen * candidates).sum(1), sums, atol=1e-14, rtol=0)
    for target, row, found in zip(targets.tolist(), candidates, sums.tolist(), strict=True):
        assert abs(found - target) == pytest.approx(brute_force(target, row), abs=1e-14)


@pytest.mark.parametrize("n", [5, 12])
def test_ties_zeros_and_copies_are_solved_as_well(n: int) -> None:
    candidates = torch.tensor([[0.25, 0.25, -0.25, 0.0, 0.5] + [0.125] * (n - 5)] * 4, dtype=torch.float64)
    targets = torch.tensor([0.0, 0.25, 7.0, -7.0], dtype=torch.float64)
    chosen, sums = subset_sum(targets, candidates)
    largest = float(candidates[0].clamp(min=0).sum())
    assert sums.tolist() == [0.0, 0.25, largest, -0.25]
    assert torch.allclose((chosen * candidates).sum(1), sums, atol=1e-14, rtol=0)


def test_a_block_does_not_see_its_neighbours() -> None:
    targets, candidates = draws(700, 14)
    together = subset_sum(targets, candidates)[0]
    alone = torch.cat([subset_sum(targets[i : i + 1], candidates[i : i + 1])[0] for i in range(0, 700, 50)])
    assert torch.equal(together[::50], alone)


def test_float32_candidates_are_added_up_in_float64() -> None:
    targets, candidates = draws(50, 16)
    single = candidates.float()
    chosen, sums = subset_sum(targets, single)
    assert sums.dtype == torch.float64
    assert torch.equal(chosen, subset_sum(targets, single.double())[0])


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_a_shared_table_answers_as_a_row_of_its_own(n: int) -> None:
    targets, candidates = draws(40, n)
    shared = candidates[0]
    chosen, sums = shared_subset_sum(targets, shared)
    alone = subset_sum(targets, shared.expand(40, n))[1]
    assert torch.allclose((chosen * shared).sum(1), sums, atol=1e-14, rtol=0)
    assert torch.allclose((sums - targets).abs(), (alone - targets).abs(), atol=1e-14, rtol=0)


def test_the_law_has_the_numbers_of_the_probe() -> None:
    found = [median_error_law(n) for n in (8, 12, 16, 20, 24)]
    assert found == pytest.approx([2.3e-3, 1.7e-4, 1.25e-5, 8.7e-7, 6.0e-8], rel=0.05)
    assert median_error_law(12, 1 / 3) == pytest.approx(3.0e-4, rel=0.05)


@pytest.mark.parametrize("n", [10, 14, 18])
def test_errors_follow_the_law(n: int) -> None:
    targets, candidates = draws(400, n, seed=1)
    median = float((subset_sum(targets, candidates)[1] - targets).abs().median())
    assert 0.7 < median / median_error_law(n) < 1.6


def test_no_weights_are_no_work() -> None:
    chosen, sums = subset_sum(torch.zeros(0), torch.zeros(0, 4))
    assert chosen.shape == (0, 4)
    assert sums.shape == (0,)


@pytest.mark.parametrize(
    ("targets", "candidates", "message"),
    [
        (torch.tensor([float("nan")]), torch.zeros(1, 3), "targets of a subset sum are finite; got nan"),
        (torch.zeros(1), torch.full((1, 3), torch.inf), "candidates of a subset sum are finite; got inf"),
        (torch.zeros(1), torch.zeros(1, 0), "n, the candidates of a weight, must be an integer from 1 to 30; got 0"),
        (torch.zeros(1), torch.zeros(1, 31), "n, the candidates of a weight, must be an integer from 1 to 30; got 31"),
        (torch.zeros(2), torch.zeros(3, 4), "got 2 targets for 3 rows; pass as many of each"),
        (torch.zeros(2).long(), torch.zeros(2, 4), "targets must be a tensor of 1 axes with real floats"),
    ],
)
def test_what_is_no_subset_sum_is_refused(targets: torch.Tensor, candidates: torch.Tensor, message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)) as refusal:
        subset_sum(targets, candidates)
    assert "\n" not in str(refusal.value)


def test_a_table_of_too_many_sums_is_refused() -> None:
    with pytest.raises(RefusedError, match="from 1 to 24; got 25"):
        shared_subset_sum(torch.zeros(1), torch.zeros(25))
