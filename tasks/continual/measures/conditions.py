"""Whether a network answers the condition that it is given, and not the images alone: other conditions, same images."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from tasks.config.fields import Count
from tasks.continual import learners
from tasks.continual.learners.base import autocast
from tasks.continual.streams import Stream, Task, evaluate_batches
from tasks.experiment import Bench
from tasks.runs.seeds import generator


@torch.no_grad()
def measure(
    learner: Any,
    stream: Stream,
    bench: Bench,
    *,
    batch: Count | None = None,
    precision: Literal["float32", "bfloat16"] | None = None,
) -> dict[str, Any] | None:
    """Accuracy on each task's test images under a condition that is not its own; None where no source reads one.

    ``swapped``: under the condition of the next task (of the last: the first). ``shuffled``: under one drawn uniformly
    from all for each image, ``(right + (T - 1) swapped) / T`` on average. ``chance`` is 1 / classes, what a network
    reaches under another condition where the answers to two questions are independent and uniform. Accuracies in [0,
    1].

    Args:
        batch: test images per forward; None: that of the run's evaluation.
        precision: ``float32`` or ``bfloat16``; None: that of the run.

    """
    count, run, seed = len(stream), bench.config["run"], bench.seeds["sampling"]
    if not isinstance(learner, learners.Modulated) or "condition" not in learner.model.reads or count < 2:
        return None
    batch, precision = batch or run["evaluation"]["batch"], precision or run["precision"]
    found = {}
    for name in ("swapped", "shuffled"):
        tasks = []
        for number, task in enumerate(stream):
            drawn = torch.randint(count, (len(task.test),), generator=generator(name, seed, number))
            condition = drawn if name == "shuffled" else torch.full_like(drawn, (number + 1) % count)
            tasks.append(_accuracy(learner, task, number, condition.to(task.test.labels.device), batch, precision))
        chance = sum(1 / task.classes for task in stream) / count
        found[name] = {"accuracy": sum(tasks) / count, "tasks": tasks, "chance": chance}
    return found


def _accuracy(
    learner: learners.Modulated, task: Task, number: int, conditions: Tensor, batch: int, precision: str
) -> float:
    right = 0
    for (images, labels), condition in zip(evaluate_batches(task.test, batch), conditions.split(batch), strict=True):
        x = task.view(images)
        with autocast(precision, x.device):
            right += int((learner(x, number, condition).argmax(1) == labels).sum())
    return right / len(task.test)


def summary(found: Mapping[str, Any]) -> list[str]:
    """A line for each way to give other conditions."""
    return [
        f"accuracy under {name} conditions: {one['accuracy']:.4f} (chance {one['chance']:.4f})"
        for name, one in found.items()
    ]
