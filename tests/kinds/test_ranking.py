"""The k largest, against a full stable sort."""

import pytest
import torch

from neuromod.kinds.ranking import largest


def slow(values: torch.Tensor, k: int) -> torch.Tensor:
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[values.double().argsort(descending=True, stable=True)[:k]] = True
    return chosen


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 37, 5000])
def test_the_largest_are_those_of_a_stable_sort(dtype: torch.dtype, share: float, size: int) -> None:
    """Half floats have many equals."""
    values = (torch.randn(size, generator=torch.Generator().manual_seed(size)) * 1000).to(dtype)
    k = int(share * size)
    assert torch.equal(largest(values, k), slow(values, k))
