"""Split classes: every task is a group of classes of its own."""

import torch
from torch import Tensor

from tasks.continual.streams.base import Split, Stream, Task, Tasks, count_of_tasks
from tasks.continual.streams.views import normalisation
from tasks.data.image_set import ImageSet
from tasks.errors import UserError
from tasks.runs.seeds import generator


def split(image_set: ImageSet, tasks: Tasks, seed: int, shuffle: bool = False, *, relabel: bool = True) -> Stream:
    """Disjoint groups of equally many classes, one group per task (Zenke et al. 2017, arXiv 1703.04200, section 5.1).

    UserError where the tasks do not divide the classes, or a task has no training images.

    Args:
        shuffle: classes in a drawn order; otherwise in that of the set, and the seed draws nothing.
        relabel: labels of every task count from 0, and all tasks share len(classes) / tasks outputs; without, labels
            stay.

    """
    total = len(image_set.classes)
    if total % count_of_tasks(tasks):
        fits = [n for n in range(1, total + 1) if total % n == 0]
        raise UserError(f"tasks must divide the {total} classes of {image_set.name}; got {tasks}; take one of {fits}")
    normalise = normalisation(image_set)
    order = torch.randperm(total, generator=generator("split", seed)) if shuffle else torch.arange(total)
    outputs = total // tasks if relabel else total
    sequence = []
    for index, group in enumerate(order.chunk(tasks)):
        train = only(image_set.train_images, image_set.train_labels, group, total, relabel)
        test = only(image_set.test_images, image_set.test_labels, group, total, relabel)
        if not len(train):
            names = ", ".join(image_set.classes[int(i)] for i in group[:3])
            rule = "every task needs training images"
            raise UserError(f"{rule}; {image_set.name} has none of {names}; take fewer tasks or another set")
        sequence.append(Task(f"split-{index}", train, test, normalise, outputs))
    return Stream("split", tuple(sequence), image_set, seed, image_set.shape, outputs)


def only(images: Tensor, labels: Tensor, group: Tensor, total: int, relabel: bool) -> Split:
    """The images of a group of classes.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,) in [0, total).
        group: the classes, int64 (k,).
        total: classes of the image set.
        relabel: label c becomes its place in the group.

    """
    table = torch.full((total,), -1)
    table[group] = torch.arange(len(group)) if relabel else group
    new = table.to(labels.device)[labels]
    keep = new >= 0
    return Split(images[keep], new[keep])
