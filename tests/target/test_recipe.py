"""A random target is a recipe: the same bits again, at the scale of its paper."""

import itertools
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neuromod import Recipe, Target
from tasks.networks import ResNet
from tests.refusals import refuses

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
    assert abs(float(constant.sign().mean())) < 0.05
    drawn = Recipe(ResNet, options, "glorot_normal").build().layer2[0].conv2.weight.detach()
    assert abs(float(drawn.std()) / glorot - 1) < 0.05
    rows = Recipe(ResNet, options, "orthogonal").build().layer2[0].conv2.weight.detach().flatten(1).double()
    assert torch.allclose(rows @ rows.T, 2 * torch.eye(32, dtype=torch.float64), atol=1e-5)
    assert bool((normal.bn1.weight == 1).all())


def drawn(constructor: Any, seed: int = 0) -> torch.Tensor:
    return Recipe(constructor, init="pytorch", seed=seed).build().weight.detach()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("at_import", ["torch.manual_seed(42)", "torch.rand(3)", "random.seed(1); np.random.seed(1)"])
def test_what_a_module_does_at_its_import_moves_no_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_import: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = f"import random\nimport numpy as np\nimport torch\n{at_import}\n\ndef net():\n    return torch.nn.Linear(4, 3)\n"
    state = torch.get_rng_state()
    found = []
    for name, seed in (("one", 0), ("one", 0), ("two", 0), ("three", 1)):
        (tmp_path / f"drawn_{name}.py").write_text(text)
        found.append(drawn(f"drawn_{name}:net", seed))
    for name in ("one", "two", "three"):
        del sys.modules[f"drawn_{name}"]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])
    assert torch.equal(found[0], drawn(lambda: nn.Linear(4, 3)))
    assert torch.equal(torch.get_rng_state(), state)


def by(draw: Any) -> Any:
    def net() -> nn.Module:
        layer = nn.Linear(4, 3)
        layer.weight.data.fill_(float(draw()))
        return layer

    return net


@pytest.mark.parametrize("draw", [np.random.rand, random.random])
def test_the_generators_of_numpy_and_random_are_seeded_for_the_constructor(draw: Any) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    first = drawn(by(draw))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index, union-attr]
    draw()
    assert torch.equal(drawn(by(draw)), first)
    assert not torch.equal(drawn(by(draw), 1), first)


@pytest.mark.parametrize("draw", [np.random.default_rng().random, random.Random().random, itertools.count().__next__])
def test_a_constructor_of_two_networks_is_refused(draw: Any) -> None:
    with refuses("a recipe's constructor gives one network", "by.<locals>.net gave two", "or pass Target a network"):
        drawn(by(draw))
    # What the initialisation draws anew does not depend on the constructor.
    assert torch.equal(*(Recipe(by(draw), seed=1).build().weight for _ in range(2)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"constructor": 3}, "a constructor is a callable"),
        ({"kwargs": [4]}, "kwargs are"),
        ({"init": "kaimin"}, "init must be one of"),
        ({"init": None}, "init must be one of"),
        ({"seed": 1.5}, "seed must be an integer"),
        ({"seed": True}, "seed must be an integer"),
        ({"density": float("nan")}, "density, the share"),
        ({"density": "half"}, "density, the share"),
        ({"density": 0.5, "init": "pytorch"}, "density scales"),
    ],
)
def test_a_recipe_that_is_none(given: dict[str, Any], words: str) -> None:
    with refuses(words, "got"):
        Recipe(**{"constructor": "tasks.networks:mlp"} | given)


def test_numbers_of_numpy_are_numbers() -> None:
    assert Recipe("a:b", seed=np.int64(3)) == Recipe("a:b", seed=3)
