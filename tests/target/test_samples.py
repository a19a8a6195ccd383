"""Samples to probe with: unlike each other, of what the example holds, in an order that nothing leaves alone."""

import pytest
import torch
from torch import Tensor

from neuromod.seeds import generator
from neuromod.target.samples import has_twins, padded, unlike, unordered


def alike(example: Tensor, count: int = 6) -> Tensor:
    (found,) = unlike((example,), (0,), count, generator("test"))
    return found


def test_integers_go_down_by_one_and_stay_at_nought_or_above() -> None:
    ones = alike(torch.ones(2, 16, dtype=torch.long))
    assert set(ones.unique().tolist()) == {0, 1}
    assert not has_twins(ones, 0)
    tokens = torch.tensor([[3, 0, 7, 1]])
    moved = alike(tokens)
    assert bool(((tokens - moved >= 0) & (tokens - moved <= 1) & (moved >= 0)).all())
    assert set(alike(torch.zeros(2, 5, dtype=torch.long)).unique().tolist()) == {0, 1}


def test_the_examples_own_samples_stay_where_they_differ() -> None:
    x = torch.arange(8.0).reshape(2, 4) + 1
    moved = alike(x)
    assert torch.equal(moved[:2], x)
    assert not has_twins(moved, 0)
    # What joins is larger: a maximum over the batch moves as well as a mean.
    assert bool((moved[2:4] >= 2 * x).all())
    assert not has_twins(alike(torch.zeros(2, 4)), 0)
    masks = torch.tensor([[True, False], [True, True]])
    assert torch.equal(alike(masks, 4), masks.repeat(2, 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_samples_but_the_first_are_shorter(axis: int) -> None:
    x = torch.ones(7, 7, 7).narrow(axis, 0, 3)
    (found,) = padded((x,), (axis,))
    rows = found.movedim(axis, 0)
    lengths = [int((row.sum(1) > 0).sum()) for row in rows]
    assert lengths == [7, 6, 5]
    assert all(bool((row[:n] == 1).all()) for row, n in zip(rows, lengths, strict=True))
    mask = torch.zeros(7, 7, 7, dtype=torch.bool).narrow(axis, 0, 3)
    (found,) = padded((mask,), (axis,))
    assert [int(row.any(1).sum()) for row in found.movedim(axis, 0)] == [0, 1, 2]


@pytest.mark.parametrize("count", [3, 4, 5, 9])
def test_an_order_that_no_flip_or_roll_leaves_as_it_is(count: int) -> None:
    order, places = unordered(count), torch.arange(count)
    assert torch.equal(order.sort().values, places)
    for other in (places.flip(0), *(places.roll(shift) for shift in range(1, count))):
        assert not torch.equal(order[other], other[order])
