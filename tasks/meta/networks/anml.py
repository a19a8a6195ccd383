"""The networks of OML and ANML for sequential learning: an encoder, a gate that reads the same image, a linear head."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from neuromod.kinds.surrogates import threshold
from neuromod.meta import InstanceNorm, LinearHead

GateForm = Literal["learned", "binary", "none", "random", "static"]
"""A network of its own (ANML), one whose gates are 0 or 1, no gate, a network with frozen random weights, one learned vector."""


def blocks(channels: int, width: int) -> nn.Sequential:
    """Three 3x3 convolutions without padding, each with instance norm and ReLU, the first two pooled by 2: 28 to 3 pixels."""
    layers: list[nn.Module] = []
    for block in range(3):
        layers += [nn.Conv2d(channels if block == 0 else width, width, 3), InstanceNorm(width)]
        # A maximum of ReLUs is the ReLU of a maximum, of a quarter as many.
        layers += [nn.MaxPool2d(2), nn.ReLU()] if block < 2 else [nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers)


class ANML(nn.Module):
    """``y = head(pn(x) * sigmoid(gate(x)))`` (Beaulieu et al. 2020, figure 2): images (B, C, H, W) to logits (B,
    outputs).

    Norms are of each image, as the public code has them, which calls its batch norm image by image. Published with
    weights by Kaiming normal and biases 0 (a `neuromod.Recipe` draws them so).

    Args:
        shape: (C, H, W) of one image, 28 x 28 as published.
        outputs: classes.
        width: channels of the encoder ``pn``, 256 as published.
        gate_width: channels of the gate's network ``nm``, 112 as published.
        gate: the gate, or the control in its place (`GateForm`).

    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        outputs: int = 1000,
        width: int = 256,
        gate_width: int = 112,
        gate: GateForm = "learned",
    ) -> None:
        super().__init__()
        self.pn = blocks(shape[0], width)
        size = self.pn(torch.zeros(1, *shape)).shape[1]
        self.nm: nn.Module | None = None
        self.static: nn.Parameter | None = None
        self.binary = gate == "binary"
        if gate in ("learned", "binary", "random"):
            self.nm = nn.Sequential(blocks(shape[0], gate_width), nn.Linear(size // width * gate_width, size))
        elif gate == "static":
            self.static = nn.Parameter(torch.zeros(size))
        self.head = nn.Linear(size, outputs)
        if gate == "random":
            assert self.nm is not None
            self.nm.requires_grad_(False)

    def gates(self, x: Tensor) -> Tensor:
        """The factors (B, features) of the features of each image; they do not depend on what an inner loop moves."""
        if self.nm is not None:
            values: Tensor = self.nm(x)
            return threshold(values, 0.0) if self.binary else torch.sigmoid(values)
        return x.new_ones(1, 1) if self.static is None else torch.sigmoid(self.static)[None]

    def encode(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        """Gated features (B, D); ``gates`` as `gates` gave them for these images, or computed here."""
        features: Tensor = self.pn(x)
        return features * (self.gates(x) if gates is None else gates)

    def classifier(self) -> LinearHead:
        """The linear head as weight (outputs, D) and bias (outputs,), for functions that move a head without moving the
        network.
        """
        return LinearHead(self.head.weight, self.head.bias)

    def forward(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.encode(x, gates))
        return logits
