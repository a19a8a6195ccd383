"""Conv-2, Conv-4, Conv-6 and Conv-8: the small VGGs of the lottery-ticket papers."""

from collections.abc import Sequence

from torch import nn

TIMES = (1, 2, 4, 8)  # the width of each pair, in widths of the first


def vgg(
    shape: Sequence[int], outputs: int, depth: int = 2, width: int = 64, hidden: int = 256, *, bias: bool = False
) -> nn.Sequential:
    """Images (C, H, W) to logits: 3x3 convolutions in pairs, pooled by 2 after each pair, two hidden layers; ReLU, no
    norm.

    Channels double from pair to pair: Conv-2, Conv-4, Conv-6 (Frankle & Carbin 2019, figure 2) and Conv-8 (Zhou et al.
    2019).

    Args:
        depth: convolutions: 2, 4, 6 or 8; ValueError for others.
        width: channels of the first pair, 64 in the papers.
        hidden: units of each of the two hidden layers.

    """
    if depth not in (2, 4, 6, 8):
        raise ValueError(f"depth must be 2, 4, 6 or 8; got {depth}; take one of these")
    layers: list[nn.Module] = []
    channels, rows, columns = shape
    for pair in range(depth // 2):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width * TIMES[pair], 3, padding=1, bias=bias), nn.ReLU()]
            channels = width * TIMES[pair]
        layers.append(nn.MaxPool2d(2))
        rows, columns = rows // 2, columns // 2
    layers.append(nn.Flatten())
    features = channels * rows * columns
    for units in (hidden, hidden):
        layers += [nn.Linear(features, units, bias=bias), nn.ReLU()]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, outputs, bias=bias))
