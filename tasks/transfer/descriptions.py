"""Tasks that a vector describes: images turned, cut into blocks that change places, pairs of classes to be told apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tasks.data.image_set import ImageSet
from tasks.data.pixels import rotation, unit
from tasks.errors import UserError

CHANGES = ("turn", "blocks", "pairs")


@dataclass(frozen=True, eq=False)
class DescribedTask:
    """What a task does to images and labels, and the vector that says so.

    Args:
        description: (n,) float32: cosine and sine of the angle, then the block at each place, one-hot, then the two classes, one-hot;
            of what a task does not change there is nothing.
        degrees: by which images are turned.
        order: int64, the block that comes to each place; None: all stay.
        pair: the classes whose labels are 0 and 1; None: all classes.

    """

    description: Tensor
    degrees: float
    order: Tensor | None
    pair: tuple[int, int] | None


class Describing:
    """The world of described tasks over one set of images.

    UserError for changes that are none, a grid that does not divide the images, and too few classes.

    Args:
        image_set: prepared; its pixels are handed to networks from 0 to 1.
        changes: what tasks differ in, of `CHANGES`.
        grid: rows and columns of blocks.

    """

    def __init__(self, image_set: ImageSet, changes: Sequence[str], grid: Sequence[int]) -> None:
        self.set, self.changes, self.grid = image_set, tuple(changes), tuple(grid)
        if not self.changes or len(set(self.changes)) != len(self.changes):
            raise UserError(
                f"tasks differ in one of {CHANGES} at least, each once; got {list(changes)}; correct changes"
            )
        _, height, width = image_set.shape
        if len(self.grid) != 2 or height % self.grid[0] or width % self.grid[1]:
            raise UserError(f"blocks divide images of {height} x {width}; got grid={list(grid)}; take divisors")
        classes = len(image_set.classes)
        if "pairs" in self.changes and classes < 2:
            raise UserError(f"pairs are of two classes; {image_set.name} has {classes}; take another set")
        self.outputs = 2 if "pairs" in self.changes else classes
        self._of_class = [
            [(labels == c).nonzero().squeeze(1) for c in range(classes)] for _, _, labels in image_set.parts()
        ]

    def draw(self, count: int, rng: torch.Generator) -> list[DescribedTask]:
        """``count`` tasks whose descriptions differ. UserError where there are not as many."""
        if count > self._possible():
            got = f"changes={list(self.changes)} make {self._possible():.0f}, asked are {count}"
            raise UserError(
                f"every task needs a description of its own; {got}; ask for fewer tasks, or for more changes"
            )
        found: dict[tuple[float, ...], DescribedTask] = {}
        while len(found) < count:
            task = self._drawn(rng)
            found.setdefault(tuple(task.description.tolist()), task)
        return list(found.values())

    def view(self, task: DescribedTask, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, W) as the task shows them, floats from 0 to 1."""
        pixels = unit(images)
        if "turn" in self.changes:
            grid = rotation(self.set.shape, task.degrees).to(pixels.device).expand(len(pixels), -1, -1, -1)
            pixels = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return pixels if task.order is None else self._exchanged(pixels, task.order)

    def batch(self, task: DescribedTask, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Training images that the task shows, drawn with repetition, and their labels.

        Args:
            task: one of this world.
            size: images.
            rng: a CPU generator.

        """
        places = self._places(task, 0)
        chosen = places[torch.randint(len(places), (size,), generator=rng).to(places.device)]
        return self.view(task, self.set.train_images[chosen]), self._labels(task, self.set.train_labels[chosen])

    def test(self, task: DescribedTask) -> tuple[Tensor, Tensor]:
        """All test images that the task shows, and their labels."""
        places = self._places(task, 1)
        return self.view(task, self.set.test_images[places]), self._labels(task, self.set.test_labels[places])

    def _possible(self) -> float:
        classes, blocks = len(self.set.classes), math.prod(self.grid)
        counts = {
            "turn": math.inf,
            "blocks": float(math.factorial(min(blocks, 20))),
            "pairs": float(classes * (classes - 1)),
        }
        return float(math.prod(counts[change] for change in self.changes))

    def _drawn(self, rng: torch.Generator) -> DescribedTask:
        degrees, order, pair, said = 0.0, None, None, []
        if "turn" in self.changes:
            degrees = 360 * float(torch.rand((), generator=rng, dtype=torch.float64))
            said.append(torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]))
        if "blocks" in self.changes:
            order = torch.randperm(math.prod(self.grid), generator=rng)
            said.append(torch.eye(len(order))[order].flatten())
        if "pairs" in self.changes:
            classes = len(self.set.classes)
            first, second = torch.randperm(classes, generator=rng)[:2].tolist()
            pair = first, second
            said.append(torch.eye(classes)[[first, second]].flatten())
        return DescribedTask(torch.cat(said), degrees, order, pair)

    def _exchanged(self, pixels: Tensor, order: Tensor) -> Tensor:
        rows, columns = self.grid
        blocks = pixels.unflatten(3, (columns, -1)).unflatten(2, (rows, -1)).permute(0, 1, 2, 4, 3, 5)
        moved = blocks.flatten(2, 3)[:, :, order.to(pixels.device)].view_as(blocks)
        whole: Tensor = moved.permute(0, 1, 2, 4, 3, 5).reshape(pixels.shape)
        return whole

    def _places(self, task: DescribedTask, part: int) -> Tensor:
        of_class = self._of_class[part]
        return torch.cat(of_class if task.pair is None else [of_class[c] for c in task.pair])

    def _labels(self, task: DescribedTask, labels: Tensor) -> Tensor:
        return labels if task.pair is None else (labels == task.pair[1]).long()
