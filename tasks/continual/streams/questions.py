"""Questions: the same pictures of two digits; a task is one question about them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tasks.continual.streams.base import Split, Stream, Task, Tasks, count_of_tasks
from tasks.continual.streams.views import normalisation
from tasks.data.image_set import ImageSet
from tasks.data.prepare import halved
from tasks.errors import UserError, nearest
from tasks.runs.seeds import generator

QUESTIONS = ("left", "right", "larger", "smaller", "sum")


def questions(
    image_set: ImageSet, tasks: Tasks, seed: int, *, asked: Sequence[str] = QUESTIONS, halve: bool = False
) -> Stream:
    """The first questions about pairs of images (C, H, W) side by side: (C, H, 2 W).

    With the classes a and b of the left and the right image, the answers are a (``left``), b (``right``), max(a, b)
    (``larger``), min(a, b) (``smaller``) and (a + b) mod classes (``sum``). All tasks share one copy of the pairs,
    drawn within the training images and within the test images; every image is in one pair, so that pairs held out of
    training show no image that is trained on. Two digits side by side: MultiMNIST (Sabour et al. 2017, arXiv
    1710.09829), there on top of one another. UserError for a question that is not known, or for more tasks than
    questions.

    Args:
        asked: the questions, in the order of the tasks.
        halve: average squares of 2 x 2 pixels first.

    """
    unknown = [name for name in asked if name not in QUESTIONS]
    if unknown:
        raise UserError(f"a question must be known; got {unknown[0]!r}; nearest: {nearest(unknown[0], QUESTIONS)}")
    if count_of_tasks(tasks) > len(asked) or len(set(asked)) < len(asked):
        rule = "every task needs a question of its own"
        raise UserError(f"{rule}; got {tasks} tasks for {', '.join(asked)}; ask for fewer tasks, or add questions")
    classes = len(image_set.classes)
    (train, train_sides), (test, test_sides) = (
        _pairs(images, labels, seed, part, halve) for part, images, labels in image_set.parts()
    )
    paired = replace(
        image_set, train_images=train, train_labels=train_sides[0], test_images=test, test_labels=test_sides[0]
    )
    view = normalisation(paired)
    made = []
    for name in asked[:tasks]:
        splits = Split(train, answer(name, *train_sides, classes)), Split(test, answer(name, *test_sides, classes))
        made.append(Task(f"questions-{name}", *splits, view, classes))
    return Stream("questions", tuple(made), image_set, seed, paired.shape, classes)


def answer(question: str, left: Tensor, right: Tensor, classes: int) -> Tensor:
    """The answers int64 (N,) to a question about pairs of classes (N,).

    Args:
        question: one of `QUESTIONS`.
        left: class of the left image, int64 (N,).
        right: class of the right image, int64 (N,).
        classes: of the image set, the modulus of ``sum``.

    """
    match question:
        case "left":
            return left
        case "right":
            return right
        case "larger":
            return torch.maximum(left, right)
        case "smaller":
            return torch.minimum(left, right)
        case _:
            return (left + right) % classes


def _pairs(images: Tensor, labels: Tensor, seed: int, part: str, halve: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Pairs (N // 2, C, H, 2 W) and the labels of their left and right images; of an odd number one image is left out."""
    count = len(images) // 2
    order = torch.randperm(len(images), generator=generator("questions", seed, part)).to(images.device)
    left, right = order[:count], order[count : 2 * count]
    small = halved(images) if halve else images
    return torch.cat([small[left], small[right]], 3), (labels[left], labels[right])
