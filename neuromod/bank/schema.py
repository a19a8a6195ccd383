"""Modulators as JSON, and back from a closed table of this package's own kinds: nothing that a file names is imported."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch

from neuromod import kinds
from neuromod.errors import RefusedError, nearest
from neuromod.kinds import Kind
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.recipe import Recipe
from neuromod.sites import Site
from neuromod.sources import Table
from neuromod.target import Target

FORMAT = 1
KINDS: Mapping[str, type[Kind]] = {k.__name__: k for k in vars(kinds).values() if isinstance(k, type) and k is not Kind}


def describe(model: Modulated) -> dict[str, Any]:
    """What a store says of a model, JSON; refuses what it could not build again."""
    modulators = [_modulator(name, modulator) for name, modulator in model.named_modulators().items()]
    target = model.target
    return {
        "format": FORMAT,
        "target": {
            "fingerprint": target.fingerprint(),
            "recipe": None if target.recipe is None else _recipe(target.recipe),
            "options": {"norm": target.norm, "batch_axis": target.batch_axis, "dropout": target.dropout},
            "example": [[list(x.shape), str(x.dtype).removeprefix("torch.")] for x in target.example],
        },
        "modulators": modulators,
    }


def build(config: Mapping[str, Any], target: Target) -> Modulated:
    """The model of a store on its target, without tasks."""
    try:
        parts = [_built(one, target) for one in config["modulators"]]
        return Modulated(target, *parts)
    except (KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"config.json must describe modulators; {error} is wrong in it; restore the file") from error


def example(config: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Inputs of the shapes and types that the target was made with, zeros."""
    shapes = config["target"]["example"]
    return tuple(torch.zeros(shape, dtype=getattr(torch, dtype)) for shape, dtype in shapes)


def _modulator(name: str, modulator: Modulator) -> dict[str, Any]:
    kind, source = type(modulator.kind).__name__, type(modulator.source).__name__
    if KINDS.get(kind) is not type(modulator.kind):
        raise RefusedError(f"a store holds kinds of this package; got {kind}; keep such a model with state_dict()")
    if modulator.reads != "task":
        raise RefusedError(
            f"a store holds sealed tasks; {name} reads {modulator.reads!r}; keep that source with its state_dict()"
        )
    return {
        "kind": {"name": kind, "fields": asdict(modulator.kind)},
        "source": source,
        "sites": [asdict(site) for site in modulator.sites],
        "seed": modulator.seed,
        "identity": modulator.identity,
    }


def _built(config: Mapping[str, Any], target: Target) -> Modulator:
    name, given = config["kind"]["name"], config["kind"]["fields"]
    if name not in KINDS:
        raise RefusedError(f"a store names kinds of this package; got {name!r}; try {nearest(str(name), KINDS)}")
    known = {field.name for field in fields(KINDS[name])}
    if set(given) != known:
        raise RefusedError(f"{name} has the fields {sorted(known)}; config.json has {sorted(given)}; restore the file")
    sites = [Site(**{**site, "shape": tuple(site["shape"])}) for site in config["sites"]]
    tensors, modules = target.tensors(), dict(target.pristine.named_modules())
    strange = [s.name for s in sites if (s.name not in modules if s.role == "output" else s.name not in tensors)]
    if strange:
        raise RefusedError(f"a site must exist in the target; {strange[0]!r} does not; pass the target of this store")
    # At rest a row is a row, whatever source it came from.
    return Modulator(KINDS[name](**given), Table(0), sites, seed=config["seed"], identity=config["identity"])


def _recipe(recipe: Recipe) -> dict[str, Any]:
    made = recipe.constructor
    name = made if isinstance(made, str) else f"{made.__module__}:{getattr(made, '__qualname__', type(made).__name__)}"
    said = {"constructor": name, "kwargs": recipe.kwargs, "init": recipe.init}
    return said | {"seed": recipe.seed, "density": recipe.density}
