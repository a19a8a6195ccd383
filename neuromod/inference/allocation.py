"""Is this batch from a task that was learned, or from a new one? Rules that allocate masks online (scenario NNs)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neuromod.arguments import count, instance, number, task_ids
from neuromod.bank import Bank
from neuromod.inference.brute_force import brute_force
from neuromod.inference.checks import check_inputs
from neuromod.inference.infer import check_best
from neuromod.inference.objectives import objective
from neuromod.inference.one_shot import one_shot
from neuromod.modulated import Modulated


class AllocationRule(Protocol):
    """Says of a batch whether its task was learned; `Standout` and `Verified` are two such rules."""

    def decide(self, model: Modulated, x: Tensor, tasks: Sequence[int], bank: Bank | None = None) -> int | None:
        """The learned task of a batch that has one unknown task; None for a new one.

        Args:
            model: the modulated network.
            x: inputs (B, ...) of one unknown task.
            tasks: ids of the tasks learned so far.
            bank: their masks, if a bank holds exactly these.

        """
        ...


@dataclass(frozen=True)
class Standout:
    """New where ``k max_i nu_i < 1 + eps``, ``nu = softmax(-dH/da)`` (Wortsman et al. 2020, section 3.4).

    H is the mean entropy of the batch at the superposition of all k masks; ``eps`` is 2^-3 in the paper. Of few masks none
    can stand out by much (of one, never): the public code superposes five at least, those that nobody has learned yet with
    the scores that they will start from, and ``reserve`` does the same.
    """

    eps: float = 0.125
    reserve: int = 5

    def __post_init__(self) -> None:
        number(self.eps, "eps")
        count(self.reserve, "reserve")

    def decide(self, model: Modulated, x: Tensor, tasks: Sequence[int], bank: Bank | None = None) -> int | None:
        """The learned task of a batch that has one unknown task; None for a new one.

        Args:
            model: with the learned tasks, sealed or live.
            x: inputs (B, ...) of one unknown task.
            tasks: ids of the tasks learned so far.
            bank: of exactly these tasks, kept from an earlier call.

        """
        tasks = task_ids(tasks)
        x = check_inputs(instance(model, Modulated, "model"), x)
        first = max(model.tasks(), default=-1) + 1
        spare = range(first, first + max(self.reserve - len(tasks), 0))
        size = x.shape[model.target.batch_axis]
        with _beside(model, spare):
            scores = one_shot(model, x, tasks=[*tasks, *spare], group=size, bank=None if spare else bank)[0] / size
        share, place = torch.softmax(scores, 0).max(0)
        new = float(share) * len(scores) < 1 + self.eps or int(place) >= len(tasks)
        return None if new else tasks[int(place)]


@contextmanager
def _beside(model: Modulated, tasks: Sequence[int]) -> Iterator[None]:
    """The model with more tasks, as they start, for the time of a question."""
    readers = model.readers("task").values()
    for task in tasks:
        model.add(task)
    try:
        yield
    finally:
        for task in tasks:
            for modulator in readers:
                modulator.source.forget(task)


@dataclass(frozen=True)
class Verified:
    """New where no task's mean margin on the batch reaches ``threshold``; else the task with the largest.

    The margin is that of real against surplus logits (`margin`). A mask puts surplus outputs far below on its own task alone,
    however confident the wrong masks are.

    Args:
        real: outputs that stand for classes, the first ones; those behind are surplus.
        threshold: of the margin, in nats.
        best: how many tasks, the likeliest by one shot, are tried.

    """

    real: int
    threshold: float = 3.5
    best: int = 8

    def __post_init__(self) -> None:
        count(self.real, "real", least=1)
        number(self.threshold, "threshold")
        check_best(self.best)

    def decide(
        self, model: Modulated, x: Tensor, tasks: Sequence[int], bank: Bank | None = None, always: Sequence[int] = ()
    ) -> int | None:
        """The learned task of a batch that has one unknown task; None for a new one.

        Args:
            model: with the learned tasks.
            x: inputs (B, ...) of one unknown task.
            tasks: ids of the tasks learned so far.
            bank: of exactly these tasks, kept from an earlier call.
            always: tasks that are tried whatever one shot says of them, the one in progress for example.

        """
        likely, tasks = list(task_ids(always)), task_ids(tasks)
        x = check_inputs(instance(model, Modulated, "model"), x)
        if tasks:
            size = x.shape[model.target.batch_axis]
            scores = one_shot(model, x, tasks=tasks, group=size, bank=bank)[0]
            likely += [tasks[i] for i in scores.topk(min(self.best, len(tasks))).indices.tolist()]
        margins = brute_force(model, x, tasks=likely, objective=objective("margin", self.real)).mean(0)
        value, place = margins.max(0)
        return likely[int(place)] if float(value) >= self.threshold else None
