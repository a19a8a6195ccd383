"""`Signature`: how often each input value is high, one byte for each, a task."""

import torch
from torch import Tensor

from neuromod.inference.predictors.base import check


class Signature:
    """Naive Bayes on binary inputs: ``score_t = sum_j b_j log p_tj + (1 - b_j) log(1 - p_tj)``, ``b_j = 1[x_j > above]``.

    ``p_tj`` is the share of task t's inputs that are high at j, rounded to a byte: n bytes per task for inputs of n numbers.
    It knows no classes: what it tells apart is tasks that place their values elsewhere, permutations above all.
    """

    def __init__(self, above: float = 0.0) -> None:
        self.above = above
        self.shares: dict[int, Tensor] = {}

    def learn(self, task: int, x: Tensor, y: Tensor) -> None:
        """Count which inputs are high; labels are not used."""
        check(self, task, x, y)
        share = (x.flatten(1) > self.above).double().mean(0)
        # Shares of exactly 0 and 1 would rule a task out by one pixel.
        self.shares[task] = (share * 255).round().clamp(1, 254).to(torch.uint8)

    def tasks(self) -> tuple[int, ...]:
        """The tasks that were learned."""
        return tuple(self.shares)

    def class_scores(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One column per task, whose label is -1."""
        p = torch.stack([share.float() / 255 for share in self.shares.values()])
        high = (x.flatten(1) > self.above).float()
        odds = torch.log(p) - torch.log1p(-p)
        scores = high @ odds.T + torch.log1p(-p).sum(1)
        owner = torch.tensor(self.tasks(), device=x.device)
        return scores, owner, torch.full_like(owner, -1)

    def bytes(self) -> tuple[float, int]:
        """Bytes per task, bytes shared."""
        return sum(share.numel() for share in self.shares.values()) / max(len(self.shares), 1), 0
