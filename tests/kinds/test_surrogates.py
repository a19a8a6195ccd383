"""Selections among many equal scores."""

import pytest
import torch

from neuromod import RefusedError
from neuromod.kinds.surrogates import top_k


@pytest.mark.parametrize("k", [1, 5, 9, 10, 20])
def test_among_zeros_the_few_others_are_kept_and_then_the_first_zeros(k: int) -> None:
    score = torch.zeros(20)
    score[torch.tensor([3, 4, 11, 15, 19])] = torch.tensor([-1.0, 2.0, 0.5, -3.0, 1e-30])
    ranked = sorted(range(20), key=lambda place: (-abs(float(score[place])), place))
    assert set(top_k(score, k).nonzero().flatten().tolist()) == set(ranked[:k])
    score[0] = torch.nan
    with pytest.raises(RefusedError, match="got NaN"):
        top_k(score, k)
