"""Augmentation of whole batches on their device, drawn from a generator: the same batch for the same seed anywhere."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images uint8 (B, C, H, W) and a CPU generator to images of the same shape."""


def flip_crop(images: Tensor, rng: torch.Generator, *, pad: int = 4) -> Tensor:
    """Each image mirrored with chance 1/2, padded with zeros and cut out again at a random place.

    The augmentation of CIFAR's ResNets (He et al. 2016, section 4.2), in one gather for the batch.

    Args:
        images: uint8 (B, C, H, W), on any device; returned in the same shape.
        rng: a CPU generator, so that a batch is the same on every device.
        pad: pixels of padding on each side, so that an image moves by up to as many.

    """
    count, _, height, width = images.shape
    # Drawn on the CPU: a device's own generator would give other batches.
    flip = torch.randint(0, 2, (count,), generator=rng).bool()
    down, right = torch.randint(0, 2 * pad + 1, (2, count), generator=rng)
    columns = torch.arange(width).expand(count, width)
    columns = torch.where(flip[:, None], width - 1 - columns, columns) + right[:, None]
    rows = torch.arange(height) + down[:, None]
    padded = nn.functional.pad(images, (pad, pad, pad, pad))
    batch = torch.arange(count)[:, None, None]
    index = (part.to(images.device) for part in (batch, rows[:, :, None], columns[:, None, :]))
    b, r, c = index
    # An index between slices: the channels come last, and go back in front.
    return padded.permute(0, 2, 3, 1)[b, r, c].permute(0, 3, 1, 2)


AUGMENT: dict[str, Augment] = {"flip_crop": flip_crop}
