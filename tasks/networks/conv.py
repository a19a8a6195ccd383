"""Small convolutional networks."""

from collections.abc import Sequence

from torch import nn


def conv(shape: Sequence[int], outputs: int, widths: Sequence[int] = (32, 64), *, bias: bool = True) -> nn.Sequential:
    """Images (C, H, W) to logits: 3x3 convolution, BatchNorm, ReLU, pooling by 2 for each width; then a linear layer.

    Args:
        widths: channels of each block.

    """
    layers: list[nn.Module] = []
    channels, side = shape[0], shape[1]
    for width in widths:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels, side = width, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, outputs, bias=bias))
