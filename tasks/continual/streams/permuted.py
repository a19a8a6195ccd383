"""Permuted images: the pixels of every task in an order of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tasks.continual.streams.base import Split, Stream, Task, Tasks, View, count_of_tasks
from tasks.continual.streams.views import Normalise, normalisation
from tasks.data.image_set import ImageSet
from tasks.runs.seeds import generator


@dataclass(frozen=True, eq=False)
class Permute:
    """y[..., k] = x[..., order[k]] over the H*W pixels, the same order in every channel, then normalised."""

    normalise: Normalise
    order: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in 0..255 to float32 of the same shape."""
        # Bytes are permuted before they become floats: a quarter of the memory traffic.
        return self.normalise(images.flatten(2).index_select(2, self.order).view_as(images))

    def picture(self, values: Tensor) -> Tensor:
        """Inputs put back where their pixels were."""
        back = torch.empty_like(self.order)
        back[self.order] = torch.arange(len(back), device=back.device)
        return values.flatten()[back].view_as(values)

    def to(self, device: torch.device | str) -> Self:
        """The same view with its tensors on a device."""
        return type(self)(self.normalise.to(device), self.order.to(device))


def side_by_side(views: Sequence[View], images: Tensor) -> Tensor:
    """Images uint8 (T, B, C, H, W), row t as view t sees them: (T, B, ...); permutations in one gather."""
    orders = [view.order for view in views if isinstance(view, Permute)]
    if len(orders) < len(views):
        return torch.stack([view(part) for view, part in zip(views, images, strict=True)])
    flat = images.flatten(3)
    index = torch.stack(orders)[:, None, None].expand_as(flat)
    permuted = flat.gather(3, index).view_as(images)
    first = views[0]
    assert isinstance(first, Permute)
    seen: Tensor = first.normalise(permuted.flatten(0, 1)).unflatten(0, images.shape[:2])
    return seen


def permutation(pixels: int, seed: int, task: int) -> Tensor:
    """The order of the pixels of a task, int64 (pixels,).

    Hashed from (seed, task), so that no two seeds share a permutation. The public code of SupSup seeds task i with seed
    + i, whence runs of neighbouring seeds share all tasks but one and their spread says little.

    Args:
        pixels: H * W of one image.
        task: its place in the stream.

    """
    return torch.randperm(pixels, generator=generator("permuted", seed, task))


def permuted(image_set: ImageSet, tasks: Tasks, seed: int, first_identity: bool = False) -> Stream:
    """Tasks with the images' own classes, the pixels of each in an order of its own.

    One copy of the images serves all tasks: a view permutes its batch. Goodfellow et al. 2013 (arXiv 1312.6211).

    Args:
        first_identity: the first task is the plain image set.

    """
    normalise = normalisation(image_set)
    train = Split(image_set.train_images, image_set.train_labels)
    test = Split(image_set.test_images, image_set.test_labels)
    _, height, width = image_set.shape
    sequence = []
    for index in range(count_of_tasks(tasks)):
        plain = first_identity and index == 0
        order = torch.arange(height * width) if plain else permutation(height * width, seed, index)
        view = Permute(normalise, order.to(train.images.device))
        sequence.append(Task(f"permuted-{index}", train, test, view, len(image_set.classes)))
    return Stream("permuted", tuple(sequence), image_set, seed, image_set.shape, len(image_set.classes))
