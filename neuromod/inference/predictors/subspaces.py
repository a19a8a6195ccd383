"""`Subspaces`: the mean and a few principal directions of every class, a byte per number."""

import math

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.inference.predictors.base import check


class Subspaces:
    """Probabilistic principal components of each class (Tipping & Bishop 1999, eqs. 5-8), log-likelihood as its score.

    ``x ~ N(m, U (L - v I) U^T + v I)`` with ``rank`` directions U, their variances L, and v the mean variance of the rest:
    ``2 log p(x) = -sum_r (u_r d)^2 / l_r - (|d|^2 - sum_r (u_r d)^2) / v - sum_r log l_r - (n - rank) log v``, ``d = x - m``.
    Inputs are first averaged over blocks of ``pool`` x ``pool`` pixels where they are images. Means and directions are kept
    as int8 with one scale each; a class costs ``(rank + 1) (n + 4) + 4 rank + 4`` bytes.
    """

    def __init__(self, rank: int = 10, *, pool: int = 2) -> None:
        if rank < 1 or pool < 1:
            raise RefusedError(f"subspaces need rank >= 1 and pool >= 1; got rank={rank}, pool={pool}; correct it")
        self.rank, self.pool = rank, pool
        self.kept: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def learn(self, task: int, x: Tensor, y: Tensor) -> None:
        """Take means and directions of every class of a task."""
        check(self, task, x, y)
        seen = self._seen(x).double()
        if self.rank >= seen.shape[1]:
            raise RefusedError(f"rank must be below the {seen.shape[1]} inputs; got {self.rank}; take fewer directions")
        for label in y.unique().tolist():
            self.kept[task, label] = self._fit(seen[y == label])

    def tasks(self) -> tuple[int, ...]:
        """The tasks that were learned."""
        return tuple(dict.fromkeys(task for task, _ in self.kept))

    def class_scores(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-likelihoods (B, C) up to a constant, and the task and label of each column."""
        seen = self._seen(x)
        scores = torch.stack([_log_likelihood(seen, *kept) for kept in self.kept.values()], 1)
        owner, label = (torch.tensor(part, device=x.device) for part in zip(*self.kept, strict=True))
        return scores, owner, label

    def bytes(self) -> tuple[float, int]:
        """Bytes per task, bytes shared."""
        total = sum((self.rank + 1) * (basis.shape[1] + 4) + 4 * self.rank + 4 for _, basis, _ in self.kept.values())
        return total / max(len(self.tasks()), 1), 0

    def _seen(self, x: Tensor) -> Tensor:
        pooled = nn.functional.avg_pool2d(x, self.pool) if x.ndim == 4 and self.pool > 1 else x
        return pooled.flatten(1)

    def _fit(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(0)
        # In float64 with a ridge: float32 gave NaN on constant pixels without a word.
        cov = (x - mean).T @ (x - mean) / max(len(x) - 1, 1) + 1e-6 * torch.eye(
            x.shape[1], dtype=x.dtype, device=x.device
        )
        values, vectors = torch.linalg.eigh(cov)
        rest = values[: -self.rank].mean().clamp(min=1e-6)
        variances = torch.cat([values[-self.rank :].clamp(min=float(rest)), rest.view(1)])
        return _as_bytes(mean).float(), _as_bytes(vectors[:, -self.rank :].T).float(), variances.float()


def _as_bytes(rows: Tensor) -> Tensor:
    """What is left of numbers that are kept as int8, each row (the last axis) with a scale of its own."""
    scale = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (rows / scale).round() * scale


def _log_likelihood(x: Tensor, mean: Tensor, basis: Tensor, variances: Tensor) -> Tensor:
    d = x - mean
    along = (d @ basis.T).square()
    inside, rest = variances[:-1], variances[-1]
    spread = inside.log().sum() + (x.shape[1] - len(inside)) * math.log(float(rest))
    return -0.5 * ((along / inside).sum(1) + (d.square().sum(1) - along.sum(1)) / rest + spread)
