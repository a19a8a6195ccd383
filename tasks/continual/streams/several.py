"""Several image sets: every task is a set of its own, with its own classes."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tasks.continual.streams.base import Split, Stream, Task, Tasks, count_of_tasks
from tasks.continual.streams.views import normalisation
from tasks.data.image_set import ImageSet, divided
from tasks.data.prepare import found
from tasks.errors import UserError


def several(
    image_set: ImageSet,
    tasks: Tasks,
    seed: int,
    *,
    others: Sequence[str],
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    halve: bool = False,
    side: int | None = None,
    turn: int = 0,
    rgb: int | None = None,
) -> Stream:  # reason: how an image set is found and prepared
    """Image sets in a row, one per task: the first one, then the others; the seed draws nothing.

    Each set is normalised by its own training images, and its labels count from 0: a task has as many outputs as its
    set has classes, the stream as many as the largest. A set with one part only is divided
    (`tasks.data.image_set.divided`). UserError where the images differ in size or in channels.

    Args:
        others: names of the sets behind the first, as `tasks.data.load.load` knows them.
        root: the data root; None: that of the environment.
        download: fetch a set that is not there.
        halve: as of ``data``, by which the others are prepared as the first set is.
        side: the same.
        turn: the same.
        rgb: the same.

    """
    if count_of_tasks(tasks) > 1 + len(others):
        rule = "every task needs an image set"
        raise UserError(f"{rule}; got {tasks} tasks for {1 + len(others)} sets; ask for fewer tasks, or add to others")
    options: dict[str, Any] = {"root": root, "download": download, "divide": True, "scaling": image_set.scaling}
    options |= {"halve": halve, "side": side, "turn": turn, "rgb": rgb}
    named = [image_set, *(found({**options, "name": name}) for name in others[: tasks - 1])]
    sets = [divided(one) for one in named]
    for other in sets[1:]:
        _check_shape(sets[0], other)
    sequence = []
    for index, one in enumerate(sets):
        parts = Split(one.train_images, one.train_labels), Split(one.test_images, one.test_labels)
        sequence.append(Task(f"several-{index}-{one.name}", *parts, normalisation(one), len(one.classes)))
    classes = max(task.classes for task in sequence)
    return Stream("several", tuple(sequence), _together(sets), seed, sets[0].shape, classes)


def _check_shape(first: ImageSet, other: ImageSet) -> None:
    if other.shape == first.shape:
        return
    rule = "all sets of a stream need images of one size and as many channels"
    both = (
        f"{' x '.join(map(str, first.shape))} in {first.name} and {' x '.join(map(str, other.shape))} in {other.name}"
    )
    remedy = "make them all grey or all RGB" if first.shape[1:] == other.shape[1:] else "resize the files of one set"
    raise UserError(f"{rule}; got {both}; {remedy}, or leave it out")


def _together(sets: Sequence[ImageSet]) -> ImageSet:
    """The first set under the name, the digest and the substitutes of all, for what a run records of its data."""
    if len(sets) == 1:
        return sets[0]
    stand_ins = [one.substitute for one in sets if one.substitute]
    return replace(
        sets[0],
        name="+".join(one.name for one in sets),
        sha256=hashlib.sha256(" ".join(one.sha256 for one in sets).encode()).hexdigest(),
        substitute="; ".join(dict.fromkeys(stand_ins)) or None,
    )
