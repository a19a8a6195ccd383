"""A random target is a recipe: the same bits again, at the scale of its paper."""

import math

import pytest
import torch

from neuromod import Recipe, Target
from tasks.networks import ResNet

IMAGES = torch.zeros(2, 2, 8, 8)
BUILD = "tasks.networks:conv"


@pytest.mark.parametrize("init", ["signed_kaiming_constant", "orthogonal", "pytorch"])
def test_a_recipe_rebuilds_its_target_bit_for_bit(init: str) -> None:
    options = {"shape": (2, 8, 8), "outputs": 5}
    state = torch.get_rng_state()
    first = Target.from_recipe(Recipe(BUILD, options, init, seed=3), IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert Target.from_recipe(Recipe(BUILD, options, init, seed=3), IMAGES).fingerprint() == first.fingerprint()
    assert Target.from_recipe(Recipe(BUILD, options, init, seed=4), IMAGES).fingerprint() != first.fingerprint()


def test_initialisations_have_the_scale_of_their_papers() -> None:
    options = {"shape": (3, 16, 16), "outputs": 10, "depth": 8}
    constant = Recipe(ResNet, options, "signed_kaiming_constant", density=0.25).build().layer2[0].conv2.weight
    assert torch.allclose(constant.abs(), torch.full_like(constant, math.sqrt(2 / (9 * 32)) * 2))
    assert abs(float(constant.detach().sign().mean())) < 0.05
    normal = Recipe(ResNet, options, "kaiming_normal").build()
    weight = normal.layer2[0].conv2.weight.detach()
    assert abs(float(weight.std()) / math.sqrt(2 / (9 * 32)) - 1) < 0.05
    assert not normal.linear.bias.detach().any()
    glorot = math.sqrt(2 / (9 * 32 + 9 * 32))
    constant = Recipe(ResNet, options, "signed_glorot_constant").build().layer2[0].conv2.weight.detach()
    assert torch.allclose(constant.abs(), torch.full_like(constant, glorot))
    drawn = Recipe(ResNet, options, "glorot_normal").build().layer2[0].conv2.weight.detach()
    assert abs(float(drawn.std()) / glorot - 1) < 0.05
    rows = Recipe(ResNet, options, "orthogonal").build().layer2[0].conv2.weight.detach().flatten(1).double()
    assert torch.allclose(rows @ rows.T, 2 * torch.eye(32, dtype=torch.float64), atol=1e-5)
    assert bool((normal.bn1.weight == 1).all())
