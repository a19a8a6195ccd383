"""Rotated images: every task turns them by an angle of its own."""

from dataclasses import dataclass
from typing import Annotated, Self

import torch
from torch import Tensor
from torch.nn import functional

from tasks.config.fields import Range
from tasks.continual.streams.base import Split, Stream, Task, Tasks, count_of_tasks
from tasks.continual.streams.views import Normalise, normalisation
from tasks.data.image_set import ImageSet
from tasks.data.pixels import rotation
from tasks.errors import UserError
from tasks.runs.seeds import generator


@dataclass(frozen=True, eq=False)
class Rotate:
    """Bilinear rotation of the whole batch by one angle, then normalised; grid is (1, H, W, 2).

    The corners are filled with pixel 0 before normalising, the value that the background has there.
    """

    normalise: Normalise
    grid: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in 0..255 to float32 of the same shape."""
        grid = self.grid.expand(len(images), -1, -1, -1)
        turned = functional.grid_sample(
            images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return self.normalise(turned)

    def picture(self, values: Tensor) -> Tensor:
        """As the network sees them: turned."""
        return values

    def to(self, device: torch.device | str) -> Self:
        """The same view with its tensors on a device."""
        return type(self)(self.normalise.to(device), self.grid.to(device))


def rotated(
    image_set: ImageSet,
    tasks: Tasks,
    degrees: Annotated[float, Range(least=-36_000, most=36_000)],
    seed: int,
    *,
    random: bool = False,
) -> Stream:
    """Turned images: task i by i * degrees, or by a random angle.

    The first is the rotated MNIST of SupSup (Wortsman et al. 2020), the second that of GEM (Lopez-Paz & Ranzato 2017,
    arXiv 1706.08840, section 4), there with 180 degrees. UserError where two tasks would be the same angle.

    Args:
        degrees: between tasks, or the end of the range of random angles; counter-clockwise.
        random: each angle is drawn from [0, degrees); otherwise the seed draws nothing.

    """
    count = count_of_tasks(tasks)
    if not random and len({round(i * degrees % 360, 9) % 360 for i in range(count)}) < count:
        rule = "every task needs an angle of its own"
        raise UserError(
            f"{rule}; got {count} tasks of {degrees} degrees; ask for fewer tasks, or take {360 / count:g} degrees"
        )
    normalise = normalisation(image_set)
    train = Split(image_set.train_images, image_set.train_labels)
    test = Split(image_set.test_images, image_set.test_labels)
    sequence = []
    for index in range(count):
        drawn = degrees * float(torch.rand((), generator=generator("rotated", seed, index), dtype=torch.float64))
        angle = drawn if random else index * degrees
        view = Rotate(normalise, rotation(image_set.shape, angle).to(train.images.device))
        sequence.append(Task(f"rotated-{angle:g}", train, test, view, len(image_set.classes)))
    return Stream("rotated", tuple(sequence), image_set, seed, image_set.shape, len(image_set.classes))
