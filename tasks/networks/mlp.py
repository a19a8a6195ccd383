"""Fully connected networks."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

NORMS = {
    "none": None,
    "batch": nn.BatchNorm1d,
    "batch_at_hand": lambda units: BatchAtHand(),
    "layer": nn.LayerNorm,
}
ACTIVATIONS = {"relu": nn.ReLU, "swish": nn.SiLU}


class BatchAtHand(nn.Module):
    """``(x - mean) / std`` over the batch, in eval mode too: no statistics are kept, and a batch must be of one task."""

    def forward(self, x: Tensor) -> Tensor:
        """Values (B, units), B at least 2."""
        return nn.functional.batch_norm(x, None, None, training=True)


def mlp(
    shape: Sequence[int],
    outputs: int,
    hidden: Sequence[int] = (300, 100),
    *,
    norm: str = "none",
    activation: str = "relu",
    bias: bool = False,
) -> nn.Sequential:
    """Images or vectors to logits: linear, norm, activation for each hidden width, then a linear layer.

    The default widths are LeNet-300-100 (LeCun et al. 1998); SupSup's networks have no biases.

    Args:
        hidden: units of each hidden layer.
        norm: ``none``, ``batch``, ``batch_at_hand`` (`BatchAtHand`) or ``layer``.
        activation: ``relu`` or ``swish``.

    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(shape)
    for units in hidden:
        layers.append(nn.Linear(width, units, bias=bias))
        build = NORMS[norm]
        if build is not None:
            layers.append(build(units))
        layers.append(ACTIVATIONS[activation]())
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs, bias=bias))
