"""What a stream of tasks taught and what it cost: four numbers of the accuracy matrix R.

R[i, j] in [0, 1] is the accuracy on task j after training on task i, float (T, T), NaN where it was not measured.
A joint training has a last row only. A number that R does not hold is None, never 0.
"""

import math

import torch
from torch import Tensor

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
            f"b has one accuracy a task, ({len(checked)},); got {tuple(initial.shape)}; evaluate every task"
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


def summary(matrix: Tensor, initial: Tensor | None = None) -> dict[str, float | None]:
    """All four by name, as a run records them; forward transfer is None without the accuracy at initialisation."""
    return {
        "average_accuracy": average_accuracy(matrix),
        "backward_transfer": backward_transfer(matrix),
        "forward_transfer": None if initial is None else forward_transfer(matrix, initial),
        "forgetting": forgetting(matrix),
    }


def _checked(matrix: Tensor) -> Tensor:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"an accuracy matrix is (T, T) with T >= 1; got {tuple(matrix.shape)}; give one row a task")
    known = matrix[~matrix.isnan()]
    if ((known < -TOLERANCE) | (known > 1 + TOLERANCE)).any():
        raise ValueError(
            f"accuracies lie in [0, 1]; got {float(known.min()):g} to {float(known.max()):g}; divide percents by 100"
        )
    return matrix.double()


def _mean(terms: Tensor) -> float | None:
    return None if not len(terms) or terms.isnan().any() else float(terms.mean())
