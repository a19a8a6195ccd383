"""Which expert a mixture gives to the inputs of which task."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import neuromod
from neuromod import Mixture
from tasks.config.fields import Count
from tasks.continual import learners
from tasks.continual.learners.modulated import call_kwargs
from tasks.continual.streams import Stream
from tasks.experiment import Bench
from tasks.report import figures
from tasks.report.panels import Section, grids
from tasks.report.read import Run


@torch.no_grad()
def measure(learner: Any, stream: Stream, bench: Bench, *, images: Count = 500) -> dict[str, Any] | None:
    """``weights`` (T, experts): mean routing weight in [0, 1] of the first mixture on test images; None without a
    mixture.

    Args:
        images: the first so many test images of each task.

    """
    if not isinstance(learner, learners.Modulated):
        return None
    model = learner.model
    source = next((m.source for m in model.named_modulators().values() if isinstance(m.source, Mixture)), None)
    if source is None:
        return None
    rows = [_mean(model, source, task.view(task.test.images[:images]), n) for n, task in enumerate(stream)]
    experts = [str(e + 1) for e in range(source.count)]
    return {"weights": [[round(v, 4) for v in row.tolist()] for row in rows], "experts": experts}


def _mean(model: neuromod.Modulated, source: Mixture, x: Tensor, task: int) -> Tensor:
    weights, _ = source.weights(model.context((x,), **call_kwargs(model, task)))
    return weights.double().mean(0)


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Mean routing weight of each expert on the test inputs of each task."""

    def grids_of(run: Run) -> list[tuple[str, figures.Grid, str]]:
        if not (routed := run.measure("routing")):
            return []
        return [("", routed["weights"], f"Experts from left to right: {', '.join(map(str, routed['experts']))}.")]

    panels = grids(runs, names, "routing weight", grids_of, ("task", "expert"), (0.0, 1.0))
    caption = "Mean weight that the router gives each expert (column) on the inputs of each task (row)."
    return [Section("routing", "Which expert for which task?", caption, tuple(panels))] if panels else []
