"""Fully connected networks."""

import math
from collections.abc import Sequence

from torch import nn

NORMS = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def mlp(
    shape: Sequence[int], outputs: int, hidden: Sequence[int] = (300, 100), *, norm: str = "none", bias: bool = False
) -> nn.Sequential:
    """Images or vectors of ``shape`` to ``outputs`` logits: linear, norm, ReLU for each hidden width.

    The default widths are LeNet-300-100 (LeCun et al. 1998); SupSup's networks have no biases.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(shape)
    for units in hidden:
        layers.append(nn.Linear(width, units, bias=bias))
        build = NORMS[norm]
        if build is not None:
            layers.append(build(units))
        layers.append(nn.ReLU())
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs, bias=bias))
