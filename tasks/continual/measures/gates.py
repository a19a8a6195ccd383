"""The activity of gates, by task and by class."""

from collections.abc import Sequence
from typing import Any

import torch

from neuromod.training.penalties import gates
from tasks.config.fields import Count
from tasks.continual import learners
from tasks.continual.learners.modulated import call_kwargs
from tasks.continual.streams import Stream
from tasks.experiment import Bench
from tasks.report import figures
from tasks.report.figures import known
from tasks.report.panels import Panel, Section, grids
from tasks.report.read import Run
from tasks.runs.files import rounded

CHUNK = 64  # images per call: rows of weights, one per image, would fill the memory otherwise


@torch.no_grad()
def measure(learner: Any, stream: Stream, bench: Bench, *, images: Count = 256) -> dict[str, Any] | None:
    """The mean factor of the first gated site on test images, whatever its source reads; None without a gate.

    ``by_task`` (T, C): on images of each task; ``by_class`` (classes, C): on those of each class in all tasks, a row of
    None for a class without images.

    Args:
        images: per task, spread evenly over its test images.

    """
    if not isinstance(learner, learners.Modulated):
        return None
    model = learner.model
    if not any(modulator.kind.is_gate for modulator in model.named_modulators().values()):
        return None
    factors, labels = [], []
    for number, task in enumerate(stream):
        # Spread over the whole split, which may be sorted by class.
        chosen = torch.linspace(0, len(task.test) - 1, min(images, len(task.test))).long().to(task.test.labels.device)
        x = task.view(task.test.images[chosen])
        labels.append(task.test.labels[chosen])
        parts = [(len(part), gates(model, model.rows(part, **call_kwargs(model, number)))) for part in x.split(CHUNK)]
        factors.append(torch.cat([next(iter(found.values())).expand(size, -1) for size, found in parts]))
    classes = torch.arange(stream.classes, device=labels[0].device)
    member = (torch.cat(labels) == classes[:, None]).to(factors[0].dtype)
    means = rounded(member @ torch.cat(factors) / member.sum(1, keepdim=True).clamp(min=1))
    there = member.any(1).tolist()
    by_class = [row if some else [None] * len(row) for row, some in zip(means, there, strict=True)]
    return {"by_task": rounded(torch.stack([values.mean(0) for values in factors])), "by_class": by_class}


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Mean gate activity by task and channel, and by class and channel."""
    keys = {"by_task": "task", "by_class": "class"}
    tops = [v for run in runs for key in keys for row in run.measure("gates").get(key, []) for v in row if known(v)]
    scale = (0.0, max([1.0, *tops]))

    def panels(key: str, rows: str, name: str) -> list[Panel]:
        def grids_of(run: Run) -> list[tuple[str, figures.Grid, str]]:
            return [(f", by {rows}", run.measure("gates")[key], "")] if run.measure("gates").get(key) else []

        return grids(runs, names, name, grids_of, (rows, "channel"), scale, (rows == "task", False))

    by_task, by_class = (
        panels("by_task", "task", "gate activity"),
        panels("by_class", "class", "gate activity by class"),
    )
    caption = (
        "Mean activity of each gate (column) on the inputs of each task, and of each class in all tasks (row): dark lets "
        "through, pale shuts."
    )
    # One colour scale serves both.
    return [Section("gates", "Gate activity", caption, (*by_task[:-1], *by_class[:-1], by_task[-1]))] if by_task else []
