"""Sites are chosen purely, and a random target is a recipe."""

import math
import re

import pytest
import torch
from torch import nn

from neuromod import Recipe, Target
from tasks.networks import ResNet, conv

IMAGES = torch.zeros(2, 2, 8, 8)
BUILD = "tasks.networks:conv"


def target() -> Target:
    return Target(conv((2, 8, 8), 5, (4, 6)), IMAGES)


@pytest.mark.parametrize(
    ("patterns", "exclude", "names"),
    [
        (("*",), (), ["0.weight", "4.weight", "9.weight"]),
        (("0", "9.weight"), (), ["0.weight", "9.weight"]),
        ((re.compile(r"^[04]\."),), (), ["0.weight", "4.weight"]),
        ((nn.Linear,), (), ["9.weight"]),
        ((lambda name, module: getattr(module, "out_channels", 0) == 6,), (), ["4.weight"]),
        (("*",), nn.Conv2d, ["9.weight"]),
        (("*",), ["0*", re.compile("^9")], ["4.weight"]),
        (("1.bias",), (), ["1.bias"]),
    ],
)
def test_weights_are_chosen_by_glob_regex_type_callable_and_exclusion(patterns, exclude, names) -> None:
    assert [site.name for site in target().weights(*patterns, exclude=exclude)] == names


def test_choosing_sites_changes_nothing() -> None:
    t = target()
    before = [*t.pristine.state_dict()], t.fingerprint(), [m._forward_hooks.copy() for m in t.pristine.modules()]
    t.weights("*"), t.outputs(nn.ReLU), t.norms(), t.statistics(), t.head()
    assert before == ([*t.pristine.state_dict()], t.fingerprint(), [m._forward_hooks for m in t.pristine.modules()])
    t.verify()


def test_axes_of_an_output_are_found() -> None:
    sites = {site.name: site for site in target().outputs("0", "1", "2", "9")}
    assert {name: (s.shape, s.channel, s.batch) for name, s in sites.items()} == {
        "0": ((4,), 1, 0),
        "1": ((4,), 1, 0),
        "2": ((4,), 1, 0),
        "9": ((5,), -1, 0),
    }


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


def test_the_fingerprint_is_of_names_shapes_dtypes_and_bytes() -> None:
    net = conv((2, 8, 8), 5, (4, 6))
    first = Target(net, IMAGES)
    assert len(bytes.fromhex(first.fingerprint())) == 32
    assert Target(net, IMAGES).fingerprint() == first.fingerprint()
    net[1].running_mean[0] = 1e-30
    assert Target(net, IMAGES).fingerprint() != first.fingerprint()
    first.verify()  # buffers are clones: the user's BatchNorm may move
