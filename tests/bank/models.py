"""A small model with masks and affine parameters, whose processes start fast."""

import torch

from neuromod import Affine, Modulated, Modulator, Recipe, Table, Target, Threshold
from neuromod.seeds import generator

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe("tasks.networks.mlp:mlp", {"shape": [12], "outputs": 5, "hidden": [10, 8], "norm": "layer"}, seed=3)


def target(seed: int = 3) -> Target:
    return Target.from_recipe(Recipe(RECIPE.constructor, RECIPE.kwargs, seed=seed), X)


def model(tasks: int = 3, *, sealed: bool = True, seed: int = 3, on: Target | None = None) -> Modulated:
    t = on or target(seed)
    masks = Modulator(Threshold(), Table(tasks), t.weights("*"), seed=0)
    made = Modulated(t, masks, Modulator(Affine(), Table(tasks), t.norms(), seed=0))
    rng = generator(1, "moved")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn(parameter.shape, generator=rng) * 0.1
    for task in range(tasks) if sealed else ():
        made.seal(task)
    return made.eval()
