"""What a stream of tasks taught and what it cost: four numbers of the accuracy matrix R.

R[i, j] in [0, 1] is the accuracy on task j after training on task i, float (T, T), NaN where it was not measured.
A joint training has a last row only. A number that R does not hold is None, never 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.report import figures
from tasks.report.figures import known
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run

TOLERANCE = 1e-6


def unmeasured(tasks: int) -> Tensor:
    """An accuracy matrix (T, T) that holds nothing yet."""
    return torch.full((tasks, tasks), math.nan, dtype=torch.float64)


def average_accuracy(matrix: Tensor) -> float:
    """ACC = 1/T sum_j R[T, j], in [0, 1]. ValueError where the last row is not complete.

    Lopez-Paz & Ranzato 2017 (arXiv 1706.08840), equation 2.
    """
    last = _checked(matrix)[-1]
    if last.isnan().any():
        missing = last.isnan().nonzero().flatten().tolist()
        raise ValueError(f"ACC needs the whole last row; tasks {missing} were not measured; evaluate them at the end")
    return float(last.mean())


def backward_transfer(matrix: Tensor) -> float | None:
    """BWT = 1/(T-1) sum_{j<T} (R[T, j] - R[j, j]), in [-1, 1]; negative is forgetting. None for one task.

    Lopez-Paz & Ranzato 2017 (arXiv 1706.08840), equation 3.
    """
    checked = _checked(matrix)
    return _mean(checked[-1, :-1] - checked.diagonal()[:-1])


def forward_transfer(matrix: Tensor, initial: Tensor) -> float | None:
    """FWT = 1/(T-1) sum_{j>1} (R[j-1, j] - b[j]), in [-1, 1]; b (T,) are the accuracies at initialisation.

    None for one task. ValueError for a b of another length.
    Lopez-Paz & Ranzato 2017 (arXiv 1706.08840), equation 4.
    """
    checked = _checked(matrix)
    if initial.shape != checked.shape[:1]:
        raise ValueError(
            f"b has one accuracy per task, ({len(checked)},); got {tuple(initial.shape)}; evaluate every task"
        )
    return _mean(checked.diagonal(1) - initial.to(checked)[1:])


def forgetting(matrix: Tensor) -> float | None:
    """F = 1/(T-1) sum_{j<T} (max_{i<T} R[i, j] - R[T, j]), in [-1, 1], the maximum over the rows that were measured.

    None for one task, and where a task was never measured before the end, as in joint training.
    Chaudhry et al. 2018 (arXiv 1801.10112), section 3.2.
    """
    checked = _checked(matrix)
    # NaN compares as nothing, so an unmeasured entry has to lose against every accuracy.
    best = checked[:-1, :-1].nan_to_num(nan=-math.inf)
    if best.numel() == 0:
        return None
    top = best.max(0).values
    return _mean(torch.where(top.isinf(), math.nan, top) - checked[-1, :-1])


def of(matrix: Tensor, initial: Tensor | None = None) -> dict[str, Any]:
    """What a run records: the matrix row by row, None where it was not measured, and its four numbers."""
    rows = [[None if v != v else v for v in row] for row in matrix.tolist()]
    return {"matrix": rows, **averages(matrix, initial)}


def summary(found: Mapping[str, Any]) -> str:
    """What is forgotten, beside the headline of a run."""
    lost = found.get("forgetting")
    return "" if lost is None else f"forgetting {100 * lost:.2f} %"


def averages(matrix: Tensor, initial: Tensor | None = None) -> dict[str, float | None]:
    """All four by name, as a run records them; forward transfer is None without the accuracy at initialisation."""
    return {
        "average_accuracy": average_accuracy(matrix),
        "backward_transfer": backward_transfer(matrix),
        "forward_transfer": None if initial is None else forward_transfer(matrix, initial),
        "forgetting": forgetting(matrix),
    }


def _checked(matrix: Tensor) -> Tensor:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"an accuracy matrix is (T, T) with T >= 1; got {tuple(matrix.shape)}; give one row per task")
    known = matrix[~matrix.isnan()]
    if ((known < -TOLERANCE) | (known > 1 + TOLERANCE)).any():
        raise ValueError(
            f"accuracies lie in [0, 1]; got {float(known.min()):g} to {float(known.max()):g}; divide percents by 100"
        )
    return matrix.double()


def _mean(terms: Tensor) -> float | None:
    return None if not len(terms) or terms.isnan().any() else float(terms.mean())


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Accuracy as tasks arrive, and task by task."""
    return [section for section in (_progress(runs, names), _matrices(runs, names)) if section is not None]


def _matrices(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Accuracy on each task after each task, on one colour scale."""
    shown = [(i, run.measure("matrix")["matrix"]) for i, run in enumerate(runs) if run.measure("matrix")]
    if not shown:
        return None
    scale, axes, looks = (
        figures.span([m for _, m in shown]),
        ("after learning task", "accuracy on task"),
        looks_of(runs),
    )
    panels = [
        Panel(names[i], looks[i][0], figures.heat(f"matrix-{i}", f"Accuracy matrix of {names[i]}", m, scale, axes))
        for i, m in shown
    ]
    bar = figures.scale_bar("matrix-scale", "Colour scale of the accuracy matrices", scale, "accuracy")
    caption = (
        "Accuracy on each task (column) after learning each task (row), all on one colour scale. Grey was not "
        "measured; a single row was measured at the end. A method that forgets pales downwards in its columns."
    )
    return Section("matrices", "Accuracy task by task", caption, (*panels, Panel("Colour scale", "", bar)))


def _progress(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Mean accuracy over the tasks learnt so far, one line per run."""
    lines, looks = [], []
    for i, run in enumerate(runs):
        seen = [[v for v in row[: t + 1] if known(v)] for t, row in enumerate(run.measure("matrix").get("matrix", []))]
        points = [(t + 1, sum(row) / len(row)) for t, row in enumerate(seen) if len(row) == t + 1]
        if len(points) > 1:
            lines.append((names[i], [x for x, _ in points], [y for _, y in points]))
            looks.append(looks_of(runs)[i])
    if not lines:
        return None
    label = "Mean accuracy over the tasks learnt so far: " + ", ".join(f"{n} ends at {y[-1]:.3f}" for n, _, y in lines)
    svg = figures.progress("progress", label, lines, looks, ("tasks learnt", "mean accuracy on them"))
    caption = (
        "Mean accuracy over all tasks learnt so far, for the runs whose matrix says it. "
        "The vertical axis need not start at zero."
    )
    return Section("progress", "Accuracy as tasks arrive", caption, (Panel("", "", svg),))
