"""The one normalisation that all streams share: (x / 255 - mean) / std per channel, or x / 255."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tasks.data.image_set import ImageSet
from tasks.errors import UserError

CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Normalise:
    """(x / 255 - mean) / std: pixels (B, C, H, W) in 0..255 to float32 (B, C, H, W); mean and std are (C, 1, 1)."""

    mean: Tensor
    std: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in 0..255 to float32 of the same shape."""
        return (images.float() / 255 - self.mean) / self.std

    def picture(self, values: Tensor) -> Tensor:
        """The values (H, W) as they are: this view moves no pixel."""
        return values

    def to(self, device: torch.device | str) -> Self:
        """The same normalisation with its numbers on a device."""
        return type(self)(self.mean.to(device), self.std.to(device))


def normalisation(image_set: ImageSet) -> Normalise:
    """Mean and std per channel of the training images, of every pixel; a constant channel is only centred.

    0 and 1 where the set asks the ``unit`` scaling, under which a black background says nothing.
    UserError where the set has no training images: statistics of test images would leak into training.
    """
    images = image_set.train_images
    if image_set.scaling == "unit":
        channels = images.new_zeros(images.shape[1], 1, 1, dtype=torch.float32)
        return Normalise(channels, channels + 1)
    if not len(images):
        rule = "a stream takes mean and std from the training images"
        raise UserError(f"{rule}; {image_set.name} has test images only; use a set with a train part")
    total = square = torch.zeros(images.shape[1], dtype=torch.int64, device=images.device)
    # Sums of integers are exact, hence equal on every device and for every number of threads.
    for start in range(0, len(images), CHUNK):
        values = images[start : start + CHUNK].to(torch.int32)
        total = total + values.sum((0, 2, 3))
        square = square + values.square().sum((0, 2, 3))
    count = images[:, 0].numel()
    mean = total.double() / count
    std = (square.double() / count - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std > 0, std, 255.0)
    return Normalise((mean / 255).float()[:, None, None], (std / 255).float()[:, None, None])
