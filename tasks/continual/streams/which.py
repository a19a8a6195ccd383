"""Which task is it: the images of another stream, with the number of their task for a label."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from tasks.continual.streams.alphabets import alphabets
from tasks.continual.streams.base import Split, Stream, Tasks
from tasks.continual.streams.permuted import permuted
from tasks.continual.streams.rotated import rotated
from tasks.continual.streams.split import split
from tasks.data.image_set import ImageSet
from tasks.errors import UserError, nearest

STREAMS: Mapping[str, Callable[..., Stream]] = {
    "alphabets": alphabets,
    "permuted": permuted,
    "rotated": rotated,
    "split": split,
}


def which(image_set: ImageSet, tasks: Tasks, seed: int, *, of: str, **options: Any) -> Stream:
    """The tasks of another stream, each image labelled with its task.

    Learned from batches that mix all tasks (``run=joint``), it is the ceiling of task inference: a classifier that sees
    all tasks at once. UserError for a stream that is not known.

    Args:
        of: the other stream: ``alphabets``, ``permuted``, ``rotated`` or ``split``.
        options: of that stream.

    """
    if of not in STREAMS:
        raise UserError(f"which asks about a known stream; got {of!r}; nearest: {nearest(of, STREAMS)}")
    stream = STREAMS[of](image_set, tasks=tasks, seed=seed, **options)
    sequence = []
    for number, task in enumerate(stream):
        train, test = (Split(part.images, torch.full_like(part.labels, number)) for part in (task.train, task.test))
        sequence.append(replace(task, train=train, test=test, classes=len(stream)))
    return replace(stream, name=f"which-{stream.name}", tasks=tuple(sequence), classes=len(stream))
