"""Heads without steps: they can't forget, and are the first rivals of whatever learns a head one sample at a time."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from neuromod.arguments import count, floating, number, shown, tensor
from neuromod.errors import RefusedError
from neuromod.meta.dual import LinearHead, check_pairs


def ridge(features: Tensor, labels: Tensor, classes: int, penalty: float = 1.0) -> LinearHead:
    """``argmin sum |W f + b - onehot(y)|^2 + penalty |W|^2``; the bias is free.

    Args:
        features: (N, D), N of 1 at least.
        labels: int64 (N,), in 0..classes-1.
        classes: outputs of the head.
        penalty: of the weights, > 0.

    """
    _check(features, labels, classes)
    penalty = number(penalty, "penalty", above=0)
    if features.dtype not in (torch.float32, torch.float64):
        raise RefusedError(f"a system is solved in float32 or float64; got {features.dtype}; pass features.float()")
    targets = F.one_hot(labels, classes).to(features)
    centre, mean = features.mean(0), targets.mean(0)
    x, y = features - centre, targets - mean
    if len(x) < x.shape[1]:
        # The smaller of the two systems: (X X^T + p I)^-1 is N x N.
        eye = torch.eye(len(x), dtype=x.dtype, device=x.device)
        weight = (x.T @ torch.linalg.solve(x @ x.T + penalty * eye, y)).T
    else:
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(x.T @ x + penalty * eye, x.T @ y).T
    return LinearHead(weight, mean - weight @ centre)


def class_means(features: Tensor, labels: Tensor, classes: int) -> LinearHead:
    """The class of the nearest mean: ``mu_c . f - |mu_c|^2 / 2``. A class without samples is never answered.

    Args:
        features: (N, D), N of 1 at least.
        labels: int64 (N,), in 0..classes-1.
        classes: outputs of the head.

    """
    _check(features, labels, classes)
    counts = torch.bincount(labels, minlength=classes).to(features)
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, features)
    weight = sums / counts.clamp(min=1)[:, None]
    bias = torch.where(counts > 0, -weight.square().sum(1) / 2, -torch.inf)
    return LinearHead(weight, bias)


@dataclass(eq=False)
class StreamingLDA:
    """Linear discriminant analysis, one sample at a time (Hayes & Kanan 2020, eq. 1-4).

    ``Sigma <- (t Sigma + D) / (t + 1)`` with ``D = t (f - mu_y)(f - mu_y)^T / (t + 1)``, then ``mu_y`` moves to the running mean of
    its class. ``head()`` inverts ``(1 - shrink) Sigma + shrink I`` once, when it is asked.

    Args:
        features: D, numbers of a feature.
        classes: outputs of the head.
        shrink: in (0, 1]; the default is the paper's.
        dtype: of the sums.
        seen: samples so far.

    """

    features: int
    classes: int
    shrink: float = 1e-4
    dtype: torch.dtype = torch.float64
    seen: int = 0
    means: Tensor = field(init=False)
    counts: Tensor = field(init=False)
    sigma: Tensor = field(init=False)

    def __post_init__(self) -> None:
        try:
            number(self.shrink, "shrink", above=0, most=1)
        except RefusedError:
            raise RefusedError(f"shrink must be in (0, 1]; got {shown(self.shrink)}; 1e-4 is the paper's") from None
        self.features = count(self.features, "features", least=1, most=10**6)
        self.classes = count(self.classes, "classes", least=1, most=10**9)
        self.dtype, self.seen = floating(self.dtype), count(self.seen, "seen")
        self.means = torch.zeros(self.classes, self.features, dtype=self.dtype)
        self.counts = torch.zeros(self.classes, dtype=torch.long)
        self.sigma = torch.zeros(self.features, self.features, dtype=self.dtype)

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor, block: int = 256) -> None:
        """Take samples in their order.

        ``t Sigma`` gains ``(1 - 1 / t) d d^T`` with each sample, so a block of samples is one product of matrices.

        Args:
            features: (N, D).
            labels: int64 (N,), in 0..classes-1.
            block: samples of a product; it changes the last digits only.

        """
        _check(features, labels, self.classes)
        block = count(block, "block", least=1)
        if features.shape[1] != self.features:
            raise RefusedError(f"features have {self.features} numbers here; got {features.shape[1]}; correct them")
        for f, y in zip(features.to(self.dtype).split(block), labels.split(block), strict=True):
            offsets, scale = torch.empty_like(f), torch.empty(len(f), dtype=self.dtype)
            for i, label in enumerate(y.tolist()):
                offsets[i] = f[i] - self.means[label]
                self.counts[label] += 1
                self.means[label] += offsets[i] / self.counts[label]
                scale[i] = (self.seen + i) / (self.seen + i + 1)
            total = self.sigma * self.seen + (offsets * scale[:, None]).T @ offsets
            self.seen += len(f)
            self.sigma = total / self.seen

    def head(self) -> LinearHead:
        """The classifier of what was seen: ``mu_c^T A f - mu_c^T A mu_c / 2``; a class without samples is never answered."""
        if not self.seen:
            raise RefusedError("a discriminant analysis needs samples; got none; call learn() first")
        eye = torch.eye(self.features, dtype=self.dtype)
        weight = torch.linalg.solve((1 - self.shrink) * self.sigma + self.shrink * eye, self.means.T).T
        bias = -(weight * self.means).sum(1) / 2
        return LinearHead(weight, torch.where(self.counts > 0, bias, -torch.inf))


def _check(features: Tensor, labels: Tensor, classes: int) -> None:
    count(classes, "classes", least=1, most=10**9)
    if tensor(features, "features").ndim != 2 or not len(features):
        raise RefusedError(
            f"a head is computed from features (N, D), one at least; got {tuple(features.shape)}; correct them"
        )
    check_pairs(features, labels, classes)
