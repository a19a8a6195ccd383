"""Latent vectors: where they lie, what spreads them, and that they find what a decoder can make."""

from functools import partial
from typing import Literal

import pytest
import torch

from tasks.generator.fitting import Fit, How, on_sphere, transport


def test_vectors_lie_on_the_sphere() -> None:
    z = on_sphere(torch.tensor([[3.0, 4.0], [0.3, -0.4]]))
    torch.testing.assert_close(z, torch.tensor([[0.6, 0.8], [0.6, -0.8]]) * 2**0.5)


def test_transport_is_the_distance_to_the_nearest() -> None:
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(transport(z, z)) == pytest.approx(0, abs=1e-6)
    # On a circle of radius sqrt(2), (-1, 0) is 2 from (0, 1), squared 4.
    assert float(transport(z, torch.tensor([[-5.0, 0.0], [0.0, 3.0]]))) == pytest.approx((4 + 0) / 2)


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_latent_vectors_find_what_was_made(loss: Literal["l1", "l2"]) -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 6, generator=rng)
    made = on_sphere(torch.randn(8, 4, generator=rng)) @ weight
    how = How(partial(torch.optim.Adam, lr=0.0), 4, 0.5, 8, loss)
    fit = Fit(made, lambda z: z @ weight, [], steps=400, how=how, seed=1)
    before = fit.error()
    for number in range(400):
        fit.step(number)
    assert fit.error() < 1e-3 < before


def test_spread_adds_its_term() -> None:
    x = torch.zeros(4, 2)

    def loss(spread: float) -> float:
        how = How(torch.optim.Adam, 2, 0.1, 4, "l2", spread)
        found = Fit(x, lambda z: z * 0, [], steps=1, how=how, seed=0).step(0)["loss"]
        assert isinstance(found, torch.Tensor)
        return float(found)

    assert loss(0.0) == 0
    assert loss(1.0) > 0
