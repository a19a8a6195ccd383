"""The contract of a router."""

from typing import Protocol

import torch
from torch import Tensor

from neuromod.errors import RefusedError


class Router(Protocol):
    """Statistics of the inputs of each task, learned in one pass, and scores of tasks from them."""

    def learn(self, task: int, x: Tensor, y: Tensor) -> None:
        """Take in one task whole: inputs float (N, ...) and labels int64 (N,); nothing of them is kept but statistics."""
        ...

    def tasks(self) -> tuple[int, ...]:
        """The tasks that were taken in, in their order."""
        ...

    def class_scores(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B, C) of every class of every task, and the task and the label (C,) of each column."""
        ...

    def bytes(self) -> tuple[float, int]:
        """Bytes a task (their mean), and bytes that all tasks share."""
        ...


def task_scores(router: Router, x: Tensor) -> Tensor:
    """Scores (B, k) of the tasks in the order of ``router.tasks()``: the best of each task's classes."""
    scores, owner, _ = router.class_scores(x)
    return torch.stack([scores[:, owner == task].amax(1) for task in router.tasks()], 1)


def classify(router: Router, x: Tensor) -> tuple[Tensor, Tensor]:
    """The router's own answer: task and label (B,) of the best class of all."""
    scores, owner, label = router.class_scores(x)
    best = scores.argmax(1)
    return owner[best], label[best]


def check(router: Router, task: int, x: Tensor, y: Tensor) -> None:
    """Refuse what no statistic can be taken of."""
    if task in router.tasks():
        raise RefusedError(f"a router learns a task once; got task {task} again; pick an id that is free")
    if len(x) != len(y) or not len(y):
        raise RefusedError(f"a router learns inputs with a label each; got {len(x)} and {len(y)}; pass both")
    if not bool(torch.isfinite(x).all()):
        raise RefusedError(f"inputs must be finite; those of task {task} are not; mend the data")
