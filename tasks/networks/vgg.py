"""Conv-2, Conv-4, Conv-6 and Conv-8: the small VGGs of the lottery-ticket papers."""

from collections.abc import Sequence

from torch import nn

WIDTHS = (64, 128, 256, 512)


def vgg(shape: Sequence[int], outputs: int, depth: int = 2, hidden: int = 256, *, bias: bool = False) -> nn.Sequential:
    """Images (C, H, W) to logits: ``depth`` 3x3 convolutions, pooled by 2 after each pair, two layers of ``hidden`` units.

    Widths 64, 128, 256, 512 a pair (Frankle & Carbin 2019, figure 2; Zhou et al. 2019); ReLU, no norm. Depth 2, 4, 6 or 8.
    """
    if depth not in (2, 4, 6, 8):
        raise ValueError(f"depth must be 2, 4, 6 or 8; got {depth}; take one of these")
    layers: list[nn.Module] = []
    channels, height, width = shape
    for pair in range(depth // 2):
        for _ in range(2):
            layers += [nn.Conv2d(channels, WIDTHS[pair], 3, padding=1, bias=bias), nn.ReLU()]
            channels = WIDTHS[pair]
        layers.append(nn.MaxPool2d(2))
        height, width = height // 2, width // 2
    layers.append(nn.Flatten())
    features = channels * height * width
    for units in (hidden, hidden):
        layers += [nn.Linear(features, units, bias=bias), nn.ReLU()]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, outputs, bias=bias))
