"""The contract of a predictor."""

from typing import Protocol

import torch
from torch import Tensor

from neuromod.errors import RefusedError


class Predictor(Protocol):
    """Says which task an input is of: statistics of the inputs of each task, learned in one pass, and scores of tasks from them."""

    def learn(self, task: int, x: Tensor, y: Tensor) -> None:
        """Take in one task whole; nothing of its inputs is kept but statistics.

        Args:
            task: an id that was not taken in before.
            x: inputs, float (N, ...), finite.
            y: labels, int64 (N,).

        """
        ...

    def tasks(self) -> tuple[int, ...]:
        """The tasks that were taken in, in their order."""
        ...

    def class_scores(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B, C) of every class of every task, and the task and the label (C,) of each column."""
        ...

    def bytes(self) -> tuple[float, int]:
        """Bytes per task (their mean), and bytes that all tasks share."""
        ...


def task_scores(predictor: Predictor, x: Tensor) -> Tensor:
    """Scores (B, k) of the tasks in the order of ``predictor.tasks()``: the best of each task's classes."""
    scores, owner, _ = predictor.class_scores(x)
    return torch.stack([scores[:, owner == task].amax(1) for task in predictor.tasks()], 1)


def classify(predictor: Predictor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The predictor's own answer: task and label (B,) of the best class of all."""
    scores, owner, label = predictor.class_scores(x)
    best = scores.argmax(1)
    return owner[best], label[best]


def check(predictor: Predictor, task: int, x: Tensor, y: Tensor) -> None:
    """Refuse what no statistic can be taken of: a task again, inputs without a label each, values that are not finite.

    Args:
        predictor: that learns.
        task: its id.
        x: inputs (N, ...).
        y: labels (N,).

    """
    if task in predictor.tasks():
        raise RefusedError(f"a predictor learns a task once; got task {task} again; pick an id that is free")
    if len(x) != len(y) or not len(y):
        raise RefusedError(f"a predictor learns inputs with a label each; got {len(x)} and {len(y)}; pass both")
    if not bool(torch.isfinite(x).all()):
        raise RefusedError(f"inputs must be finite; those of task {task} are not; mend the data")
