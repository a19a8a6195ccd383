"""CIFAR ResNets (He et al. 2016, section 4.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut: a projection where the width changes, or option A (zeros).

    Args:
        inputs: channels that come in.
        width: channels that go out.
        stride: of the first convolution; sides are divided by it.
        shortcut: ``A`` pads with zeros where the width changes, anything else is a 1x1 projection.

    """

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != width:
            self.shortcut = _Pad(inputs, width, stride) if shortcut == "A" else _projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        h = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


class _Pad(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, (width - inputs) // 2, (width - inputs + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def _projection(inputs: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    """``depth = 2 stages n + 2``: n blocks at each of ``stages`` widths, global average pooling, a linear layer.

    Three stages are CIFAR's ResNets; depth 18, width 20, four stages the one of GEM (Lopez-Paz & Ranzato 2017).
    ValueError for a depth that is not of this form.

    Args:
        depth: layers with weights, shortcuts apart.
        width: channels of the first stage; each later one has twice as many.
        stages: of them.
        shortcut: ``projection``, or ``A`` (zeros) as published for CIFAR.

    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        depth: int = 20,
        width: int = 16,
        *,
        stages: int = 3,
        shortcut: str = "projection",
    ) -> None:
        super().__init__()
        if (depth - 2) % (2 * stages):
            raise ValueError(f"depth must be {2 * stages} n + 2; got {depth}; try {depth - (depth - 2) % (2 * stages)}")
        self.conv1 = nn.Conv2d(shape[0], width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        self.stages = stages
        for stage in range(stages):
            blocks = []
            for number in range((depth - 2) // (2 * stages)):
                stride = 2 if stage and not number else 1
                blocks.append(Block(inputs, width * 2**stage, stride, shortcut))
                inputs = width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, outputs)."""
        h = torch.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            h = self.get_submodule(f"layer{stage + 1}")(h)
        logits: Tensor = self.linear(h.mean((2, 3)))
        return logits
