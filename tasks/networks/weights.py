"""A network to freeze: drawn by a recipe, or its constructor and a file of trained weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_method
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neuromod import Recipe, Target, random_delta
from tasks.data.load import root_of
from tasks.errors import UserError

SAFE, FORMER = ".safetensors", (".pt", ".pth", ".bin")


def frozen(options: Mapping[str, Any], example: Tensor, *, root: str | os.PathLike[str] | None, seed: int) -> Target:
    """The frozen network of a config's ``target``.

    Args:
        options: ``constructor``, ``kwargs``, ``init``, ``density``, ``norm``; ``weights``, the name or path of a file; ``delta``, how many
            times the size of the weights a random difference beside them has (`neuromod.random_delta`).
        example: images that it takes.
        root: the data root; None: that of the environment.
        seed: of what is drawn.

    """
    drawn = {key: value for key, value in options.items() if key not in ("norm", "weights", "delta")}
    weights, delta = options.get("weights"), options.get("delta") or 0
    recipe = Recipe(**drawn, seed=seed)
    if weights is None and not delta:
        return Target.from_recipe(recipe, example, norm=options["norm"])
    net = recipe.build() if weights is None else with_weights(options["constructor"], options["kwargs"], weights, root)
    return Target(random_delta(net, size=delta, seed=seed) if delta else net, example, norm=options["norm"])


def with_weights(
    constructor: str, kwargs: Mapping[str, Any], name: str, root: str | os.PathLike[str] | None
) -> nn.Module:
    """The network of ``constructor(**kwargs)`` with the tensors of ROOT/NAME.safetensors, or of a file.

    UserError where the file is missing, is no file of tensors, or holds tensors of other names or shapes.

    Args:
        constructor: ``package.module:function``.
        kwargs: what it is called with.
        name: of the file under the data root, or the path of a file .safetensors (a pickle, .pt or .pth, is refused: it runs code).
        root: the data root; None: that of the environment.

    """
    file = _file(name, root)
    net: nn.Module = get_method(constructor.replace(":", "."))(**kwargs)
    try:
        net.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"{file} must hold the weights of {constructor}; {first}; correct target.kwargs") from error
    return net


def _file(name: str, root: str | os.PathLike[str] | None) -> Path:
    if Path(name).suffix in FORMER:
        raise UserError(
            f"weights are read from safetensors, for a pickle runs code; got {name}; write it again with "
            "safetensors.torch.save_file(net.state_dict(), 'net.safetensors')"
        )
    if Path(name).suffix == SAFE:
        if not Path(name).is_file():
            raise UserError(f"target.weights={name} must be a file; it does not exist; correct the path")
        return Path(name)
    base = root_of(root)
    file = None if base is None else base / f"{name}.safetensors"
    if file is None or not file.exists():
        place = "no data root is set" if file is None else f"{file} does not exist"
        raise UserError(f"target.weights={name} needs NAME.safetensors under the data root; {place}; put it there")
    return file
