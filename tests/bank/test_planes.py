"""Scores from bit planes: the rounded gradient, counted exactly, within the bound that is stated."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neuromod.bank.packed import project
from neuromod.bank.planes import GROUP, quantise, split, values
from tests.bank.slow import PATHS, SIZES, bank, heavy, slow_product


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("planes", [2, 5, 8, 9, 16])
def test_planes_count_the_rounded_gradient(n: int, planes: int) -> None:
    masks, bits = bank(5, n)
    gradient = heavy(n)
    scores = {path: project(bits, gradient, planes=planes, path=path) for path in PATHS}  # type: ignore[arg-type]
    assert torch.equal(scores["plain"], scores["compiled"])  # the same integers
    exact, highest = slow_product(masks, gradient), 2 ** (planes - 1) - 1
    rounded, bound = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for first in range(0, n, GROUP):
        part = slice(first, first + GROUP)
        scale = gradient[part].abs().max() / highest
        rounded += scale * slow_product(masks[:, part], torch.round(gradient[part] / scale))
        bound += scale / 2 * masks[:, part].sum(-1)
    torch.testing.assert_close(scores["plain"], rounded, rtol=1e-12, atol=1e-9)
    assert ((scores["plain"] - exact).abs() <= bound * (1 + 1e-9)).all()
    together = project(bits, torch.stack([gradient, -gradient]), planes=planes)
    assert torch.equal(together, torch.stack([scores["plain"], -scores["plain"]]))


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.integers(-127, 127), min_size=1, max_size=200),
    planes=st.integers(8, 16),
    scale=st.sampled_from([1e-40, 1e-20, 1.0, 1e30]),
)
@example(data=[43, 126], planes=13, scale=1e-20)
def test_planes_hold_every_bit(data: list[int], planes: int, scale: float) -> None:
    vector = torch.tensor(data, dtype=torch.float32) * scale
    integers, scales = quantise(vector, planes)
    assert torch.isfinite(scales).all()
    assert abs(integers.astype(int)).max() <= 2 ** (planes - 1) - 1
    error = (vector.double() - scales.double() * torch.from_numpy(integers)[: len(vector)]).abs()
    # The quotient is rounded to float32 before it is rounded to an integer.
    assert (error <= (scales.double() / 2 + 2**-24 * vector.double().abs()) * (1 + 1e-12)).all()
    words = split(integers, planes)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(np.int64)
    assert (values(planes) @ bits == integers).all()
