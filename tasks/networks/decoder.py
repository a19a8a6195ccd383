"""A decoder: latent vectors to images."""

from collections.abc import Sequence

from torch import nn


def decoder(shape: Sequence[int], latent: int, width: int = 32, blocks: int = 1) -> nn.Sequential:
    """Latent vectors (latent,) to images (C, H, W) of pixels from 0 to 1, H and W even.

    A linear layer to ``width`` maps of half the side; BatchNorm and ReLU; twice the side by copies; ``blocks`` times a 3 x 3
    convolution, BatchNorm and ReLU; a 3 x 3 convolution and a sigmoid. Only the last layer has a bias.

    Args:
        shape: of an image.
        latent: numbers of a latent vector.
        width: maps of every layer but the last.
        blocks: convolutions in front of the last.

    """
    channels, height, side = shape
    half = (height // 2, side // 2)
    layers: list[nn.Module] = [
        nn.Linear(latent, width * half[0] * half[1], bias=False),
        nn.Unflatten(1, (width, *half)),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
    ]
    for _ in range(blocks):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid())
