"""Wide residual networks (Zagoruyko & Komodakis 2016), normalised in front of each convolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WideBlock(nn.Module):
    """Norm, ReLU and a 3x3 convolution, twice; a shortcut, by a 1x1 convolution where the width changes.

    Args:
        inputs: channels that come in.
        width: channels that go out.
        stride: of the first convolution.

    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.skip = None if inputs == width else nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        h = torch.relu(self.bn1(x))
        shortcut = x if self.skip is None else self.skip(h)
        residual: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(h))))
        return shortcut + residual


class WideResNet(nn.Module):
    """``depth = 6 n + 4``: n blocks at each of three widths, 16, 32 and 64 times ``width``; then norm, pooling, a linear layer.

    ValueError for a depth that is not of this form. WRN-22-2 has 1,076,912 weights for ten classes, its norms and biases apart.

    Args:
        depth: layers with weights.
        width: how many times as wide as a CIFAR ResNet.

    """

    def __init__(self, shape: Sequence[int], outputs: int, depth: int = 22, width: int = 2) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"depth must be 6 n + 4; got {depth}; try {depth - (depth - 4) % 6}")
        self.conv1 = nn.Conv2d(shape[0], 16, 3, 1, 1, bias=False)
        inputs = 16
        for stage in range(3):
            blocks, channels = [], 16 * width * 2**stage
            for number in range((depth - 4) // 6):
                blocks.append(WideBlock(inputs, channels, 2 if stage and not number else 1))
                inputs = channels
            self.add_module(f"stage{stage + 2}", nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(inputs)
        self.logits = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, outputs)."""
        h = self.conv1(x)
        for stage in (2, 3, 4):
            h = self.get_submodule(f"stage{stage}")(h)
        logits: Tensor = self.logits(torch.relu(self.bn(h)).mean((2, 3)))
        return logits
