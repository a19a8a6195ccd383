"""How sure the network is under the right task, and under another."""

from typing import Any

import torch

from tasks.config.fields import Count
from tasks.continual import learners
from tasks.continual.measures.queries import Queries
from tasks.continual.streams import Stream
from tasks.experiment import Bench


@torch.no_grad()
def measure(learner: Any, stream: Stream, bench: Bench, *, images: Count | None = None) -> dict[str, float] | None:
    """``own`` and ``other``: the largest probability of the output in [0, 1], its mean over test images.

    Under their own task and under the next one. None where the measure ``inference`` did not find the task of single
    images.

    Args:
        images: test images per task; None: as many as the measure ``inference`` drew.

    """
    found = bench.measured.get("inference") or {}
    if not isinstance(learner, learners.Modulated) or not any("task_and_class" in one for one in found.values()):
        return None
    count = images or next(one["images_per_task"] for one in found.values() if "task_and_class" in one)
    queries = Queries.draw(stream, count, bench.seeds["sampling"])
    tasks = {"own": queries.task, "other": (queries.task + 1) % len(stream)}
    sure = {}
    for name, task in tasks.items():
        parts = zip(queries.x.split(10_000), task.split(10_000), strict=True)
        each = [torch.softmax(learner.model(x, task=t), 1).amax(1) for x, t in parts]
        sure[name] = float(torch.cat(each).double().mean())
    return sure
