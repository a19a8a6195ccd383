"""Scores of different tasks on one scale: two numbers per task, from held-out training data."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.arguments import tensor
from neuromod.errors import RefusedError


@dataclass(frozen=True, eq=False)
class Calibration:
    """``z_i = (score_i - mean_i) / std_i``: how far a score is from those of the task's own inputs.

    ``mean`` and ``std`` (k,) are of task i's score on inputs of task i: 8 bytes per task.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        mean, std = tensor(self.mean, "mean", 1), tensor(self.std, "std", 1)
        if mean.shape != std.shape:
            raise RefusedError(
                f"a calibration has a mean and a deviation per task; got {len(mean)} and {len(std)}; correct them"
            )

    @classmethod
    def fit(cls, own: Mapping[int, Tensor]) -> "Calibration":
        """From the scores (N_i,) of each task on its own held-out inputs, in the order of the tasks."""
        short = [task for task, scores in own.items() if len(scores) < 2]
        if short or not own:
            said = f"task {short[0]} has {len(own[short[0]])}" if short else "none were given"
            raise RefusedError(f"calibration needs two held-out inputs per task; {said}; pass more")
        mean = torch.stack([scores.mean() for scores in own.values()])
        std = torch.stack([scores.std() for scores in own.values()])
        return cls(mean, std.clamp(min=1e-6))

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores (..., k) on one scale; -inf stays what it is."""
        if tensor(scores, "scores").shape[-1:] != self.mean.shape:
            width = [0, *scores.shape][-1]
            raise RefusedError(
                f"a calibration is of the tasks that are scored; it has {len(self.mean)}, got {width}; fit it anew"
            )
        return (scores - self.mean.to(scores)) / self.std.to(scores)
