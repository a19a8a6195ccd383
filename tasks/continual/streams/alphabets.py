"""Alphabets: every task is a group of classes that are named alike, `GROUP/CLASS`."""

import torch

from tasks.continual.streams.base import Stream, Task, Tasks, count_of_tasks
from tasks.continual.streams.split import only
from tasks.continual.streams.views import normalisation
from tasks.data.image_set import ImageSet, every_fifth
from tasks.errors import UserError


def alphabets(image_set: ImageSet, tasks: Tasks, seed: int) -> Stream:
    """The first `tasks` groups of the training images, by name; labels count from 0 in each. The seed draws nothing.

    Of each class every fifth image is a test image: Omniglot (Lake et al. 2015, Science 350) has other classes in its test
    part. A task has as many outputs as its group has classes, the stream as many as the largest. UserError where names
    have no group, or where there are fewer groups.
    """
    names, labels = image_set.classes, image_set.train_labels
    present = sorted({names[label].partition("/")[0] for label in labels.unique().tolist()})
    if not all("/" in name for name in names):
        bare = next(name for name in names if "/" not in name)
        raise UserError(f"classes must be named GROUP/CLASS; {image_set.name} has {bare!r}; rename them, or split them")
    if count_of_tasks(tasks) > len(present):
        raise UserError(f"every task needs a group; got {tasks} tasks for {len(present)}; ask for fewer tasks")
    view, held = normalisation(image_set), every_fifth(labels)
    sequence = []
    for index, group in enumerate(present[:tasks]):
        own = torch.tensor([i for i, name in enumerate(names) if name.partition("/")[0] == group])
        train, test = (
            only(image_set.train_images[keep], labels[keep], own, len(names), True) for keep in (~held, held)
        )
        sequence.append(Task(f"alphabets-{index}-{group}", train, test, view, len(own)))
    classes = max(task.classes for task in sequence)
    return Stream("alphabets", tuple(sequence), image_set, seed, image_set.shape, classes)
