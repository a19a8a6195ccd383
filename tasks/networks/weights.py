"""A trained network to freeze: its constructor and a file of weights under the data root."""

import os
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_method
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from tasks.data.load import root_of
from tasks.errors import UserError


def with_weights(
    constructor: str, kwargs: Mapping[str, Any], name: str, root: str | os.PathLike[str] | None
) -> nn.Module:
    """The network of ``constructor(**kwargs)`` with the tensors of ROOT/NAME.safetensors.

    UserError where the file is missing, is no safetensors file, or holds tensors of other names or shapes.

    Args:
        constructor: ``package.module:function``.
        kwargs: what it is called with.
        name: of the file.
        root: the data root; None: that of the environment.

    """
    base = root_of(root)
    file = None if base is None else base / f"{name}.safetensors"
    if file is None or not file.exists():
        place = "no data root is set" if file is None else f"{file} does not exist"
        raise UserError(f"target.weights={name} needs NAME.safetensors under the data root; {place}; put it there")
    net: nn.Module = get_method(constructor.replace(":", "."))(**kwargs)
    try:
        net.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"{file} must hold the weights of {constructor}; {first}; correct target.kwargs") from error
    return net
