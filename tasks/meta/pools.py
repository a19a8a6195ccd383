"""Classes to meta-train on, to choose rates on, and to test on: three pools without a class in common."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.data.image_set import ImageSet
from tasks.errors import UserError

BACKGROUND = 0.6  # of the classes, where train and test part have the same ones


@dataclass(frozen=True, eq=False)
class Pool:
    """Images uint8 (classes, each, C, H, W), the images of a class in the order of the file, and the names of the classes."""

    images: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def each(self) -> int:
        """How many images every class has."""
        return self.images.shape[1]

    def seen(self, index: Tensor | tuple[Any, ...]) -> Tensor:
        """Some images as a network sees them: float, 0 to 1."""
        return self.images[index].float() / 255

    def to(self, device: torch.device | str) -> "Pool":
        """The same pool on a device."""
        return Pool(self.images.to(device), self.names)


@dataclass(frozen=True)
class Pools:
    """Three sets of classes without a class in common.

    Args:
        train: for meta-training.
        validation: for the choice of rates.
        test: for nothing but the test.
        divided: whether the test classes were cut from the same part of the image set, which has no evaluation classes.

    """

    train: Pool
    validation: Pool
    test: Pool
    divided: bool


def pools(image_set: ImageSet, validation: int) -> Pools:
    """The background set less its last ``validation`` classes, those classes, and the evaluation set.

    Classes stand in the order of their names, never of a directory. Where both parts of an image set have the same classes, as
    those of digits have, the first three fifths are the background and ``divided`` says so.
    """
    train, test = (dict(enumerate(_by_class(*part))) for _, *part in image_set.parts())
    shared = any(len(train[c]) and len(test[c]) for c in train.keys() & test.keys())
    if shared:
        cut = max(1, round(BACKGROUND * len(image_set.classes)))
        background, evaluation = {c: train[c] for c in range(cut)}, {c: train[c] for c in range(cut, len(train))}
    else:
        background, evaluation = train, test
    first, last = (_pool(part, image_set) for part in (background, evaluation))
    if not 0 < validation < len(first):
        rule = "validation classes are cut from the background set"
        raise UserError(f"{rule}; got {validation} of {len(first)}; take fewer")
    kept = len(first) - validation
    return Pools(
        Pool(first.images[:kept], first.names[:kept]), Pool(first.images[kept:], first.names[kept:]), last, shared
    )


def _by_class(images: Tensor, labels: Tensor) -> list[Tensor]:
    classes = int(labels.max()) + 1 if len(labels) else 0
    return [images[labels == c] for c in range(classes)]


def _pool(classes: dict[int, Tensor], image_set: ImageSet) -> Pool:
    there = sorted((image_set.classes[c], images) for c, images in classes.items() if len(images))
    if not there:
        raise UserError(f"{image_set.name} has no class for one of the pools; give it classes in both parts")
    each = min(len(images) for _, images in there)
    return Pool(torch.stack([images[:each] for _, images in there]), tuple(name for name, _ in there))
