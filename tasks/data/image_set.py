"""`ImageSet`: images of one size with their classes, in memory."""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tasks.errors import UserError

TEST_EVERY = 5
SCALINGS = ("standard", "unit")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their classes, in memory. Either part may be empty, not both.

    UserError where the tensors do not fit one another.

    Args:
        name: of the set.
        train_images: uint8 (N, C, H, W).
        train_labels: int64 (N,) in [0, len(classes)).
        test_images: uint8 (M, C, H, W).
        test_labels: int64 (M,) in [0, len(classes)).
        classes: their names.
        sha256: of the file, or of the tensors where there is no file.
        substitute: None, or a sentence that says what stands in for what: a run on a substitute never carries a
            published value.
        scaling: how streams hand pixels to a network: ``standard``, with mean 0 and deviation 1 per channel, or
            ``unit``, from 0 to 1.

    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    sha256: str
    substitute: str | None = None
    scaling: str = "standard"

    def __post_init__(self) -> None:
        if self.scaling not in SCALINGS:
            raise UserError(f"scaling must be one of {SCALINGS}; got {self.scaling!r}; take one of these")
        for part, images, labels in self.parts():
            _check_part(f"{self.name}: {part}", images, labels, len(self.classes))
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            got = f"{tuple(self.train_images.shape[1:])} and {tuple(self.test_images.shape[1:])}"
            raise UserError(f"{self.name}: train and test images must have one size; got {got}; resize one of them")
        if not len(self.train_images) + len(self.test_images):
            raise UserError(f"{self.name}: an image set needs images; got none; give train or test images")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    def parts(self) -> tuple[tuple[str, Tensor, Tensor], tuple[str, Tensor, Tensor]]:
        """The two parts as (name, images, labels)."""
        return ("train", self.train_images, self.train_labels), ("test", self.test_images, self.test_labels)


def divided(image_set: ImageSet) -> ImageSet:
    """The set itself, or, where a part is empty, its one part divided: every fifth image of a class is a test image.

    The set that is returned says so in its `substitute`. UserError where a class has too few images.
    """
    (_, *train), (_, *test) = image_set.parts()
    if len(train[1]) and len(test[1]):
        return image_set
    name, (images, labels) = ("train", train) if len(train[1]) else ("test", test)
    held = every_fifth(labels)
    if set(labels[held].tolist()) != set(labels.tolist()):
        rule = f"a class needs {TEST_EVERY} images to be divided into train and test"
        raise UserError(f"{rule}; {image_set.name} has fewer of some; give it a train and a test part")
    sentence = f"{int((~held).sum()):,} train and {int(held.sum()):,} test images are cut from the {name} part of {image_set.name}"
    return replace(
        image_set,
        train_images=images[~held],
        train_labels=labels[~held],
        test_images=images[held],
        test_labels=labels[held],
        substitute="; ".join(filter(None, (image_set.substitute, sentence))),
    )


def held_out(image_set: ImageSet, count: int, rng: torch.Generator) -> ImageSet:
    """The set with ``count`` of its training images, drawn by ``rng``, in the place of its test images.

    UserError where none is left to train on.

    Args:
        image_set: with training images.
        count: images that are held out.
        rng: a CPU generator.

    """
    images, labels = image_set.train_images, image_set.train_labels
    if count >= len(labels):
        raise UserError(f"held_out must leave images to train on; got {count} of {len(labels)}; take fewer")
    order = torch.randperm(len(labels), generator=rng)
    held, kept = order[:count], order[count:]
    return replace(
        image_set,
        train_images=images[kept],
        train_labels=labels[kept],
        test_images=images[held],
        test_labels=labels[held],
    )


def every_fifth(labels: Tensor) -> Tensor:
    """A mask (N,) that picks every fifth image of each class, in their order."""
    # The place of each image among those of its own class.
    place = nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None]).squeeze(1) - 1
    return place % TEST_EVERY == TEST_EVERY - 1


def tensor_digest(*tensors: Tensor) -> str:
    """SHA-256 over dtypes, shapes and bytes, for image sets that are not a file."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def _check_part(where: str, images: Tensor, labels: Tensor, classes: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or labels.dtype != torch.int64 or labels.ndim != 1:
        got = f"{images.dtype} {tuple(images.shape)} and {labels.dtype} {tuple(labels.shape)}"
        raise UserError(f"{where} needs uint8 images (N, C, H, W) and int64 labels (N,); got {got}; convert it")
    if len(images) != len(labels):
        raise UserError(f"{where}: every image needs one label; got {len(images)} and {len(labels)}; repair it")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        span = f"{int(labels.min())}..{int(labels.max())}"
        raise UserError(f"{where}: labels must name one of {classes} classes; got {span}; repair it")
