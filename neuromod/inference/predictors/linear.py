"""`Linear`: a linear classifier over all classes of all tasks, on frozen random features, learned in one pass."""

import math

import torch
from torch import Tensor

from neuromod.errors import RefusedError
from neuromod.inference.predictors.base import check
from neuromod.seeds import generator


class RandomFeatures:
    """``relu(x W + b)``, W and b drawn from a seed: nothing of it needs to be kept."""

    def __init__(self, units: int = 1000, *, seed: int = 0) -> None:
        self.units, self.seed = units, seed

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs (B, ...) to (B, units), float64."""
        flat = x.flatten(1).double()
        rng = generator(self.seed, "features", flat.shape[1])
        weight = torch.randn(flat.shape[1], self.units, generator=rng, dtype=torch.float64) / math.sqrt(flat.shape[1])
        bias = torch.randn(self.units, generator=rng, dtype=torch.float64) / 2
        return torch.relu(flat @ weight.to(flat) + bias.to(flat))


class Linear:
    """Discriminant analysis or ridge regression on features h; the score of a class is its output.

    ``"lda"``: ``m_c S^-1 h - m_c S^-1 m_c / 2`` with class means m and the covariance S within classes, shrunk to
    ``(1 - a) S + a tr(S) / d I`` (Hayes & Kanan 2020). ``"ridge"``: ``h W``, ``W = (H^T H + a N I)^-1 H^T Y``. Both are sums
    over inputs, so tasks come one after the other. Kept: a (d, d) matrix that all tasks share, d numbers for each class.

    Args:
        form: "lda" or "ridge".
        features: from inputs (B, ...) to h (B, d); by default 1,000 random ones.
        shrink: a, in (0, 1).

    """

    def __init__(self, form: str = "lda", features: RandomFeatures | None = None, *, shrink: float = 1e-3) -> None:
        if form not in ("lda", "ridge"):
            raise RefusedError(f"form must be 'lda' or 'ridge'; got {form!r}; correct it")
        if not 0 < shrink < 1:
            raise RefusedError(f"shrink must be in (0, 1); got {shrink}; correct it")
        self.form, self.shrink = form, shrink
        self.features = features or RandomFeatures()
        self.shared: Tensor | None = None
        self.sums: dict[tuple[int, int], Tensor] = {}
        self.counts: dict[tuple[int, int], int] = {}

    def learn(self, task: int, x: Tensor, y: Tensor) -> None:
        """Add a task's inputs to the sums."""
        check(self, task, x, y)
        for label in y.unique().tolist():
            total = torch.zeros(self.features.units, dtype=torch.float64, device=x.device)
            for part in x[y == label].split(4096):
                h = self.features(part)
                gram = h.T @ h
                self.shared = gram if self.shared is None else self.shared + gram
                total = total + h.sum(0)
            self.sums[task, label], self.counts[task, label] = total, int((y == label).sum())

    def tasks(self) -> tuple[int, ...]:
        """The tasks that were learned."""
        return tuple(dict.fromkeys(task for task, _ in self.sums))

    def class_scores(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (B, C), and the task and label of each column."""
        weight, bias = self._solve()
        scores = torch.cat([self.features(part) @ weight + bias for part in x.split(4096)])
        owner, label = (torch.tensor(part, device=x.device) for part in zip(*self.sums, strict=True))
        return scores, owner, label

    def bytes(self) -> tuple[float, int]:
        """Bytes per task, bytes shared, in float32."""
        d = self.features.units
        return 4 * d * len(self.sums) / max(len(self.tasks()), 1), 4 * d * (d + 1) // 2

    def _solve(self) -> tuple[Tensor, Tensor]:
        if self.shared is None:
            raise RefusedError("a predictor scores learned tasks; got none; call learn(task, x, y) first")
        sums = torch.stack(list(self.sums.values()), 1)
        counts = torch.tensor(list(self.counts.values()), dtype=sums.dtype, device=sums.device)
        eye = torch.eye(len(sums), dtype=sums.dtype, device=sums.device)
        if self.form == "ridge":
            return torch.linalg.solve(
                self.shared / counts.sum() + self.shrink * eye, sums / counts.sum()
            ), counts.new_zeros(1)
        means = sums / counts
        within = (self.shared - (means * counts) @ means.T) / counts.sum()
        shrunk = (1 - self.shrink) * within + self.shrink * within.trace() / len(sums) * eye
        weight = torch.linalg.solve(shrunk, means)
        return weight, -0.5 * (means * weight).sum(0)
