"""Accuracy of drawn masks, where a kind draws them."""

from typing import Any

import torch

from tasks.config.fields import Count
from tasks.continual import learners
from tasks.continual.learners.modulated import call_kwargs
from tasks.continual.measures.reduced import mean_accuracy
from tasks.continual.streams import Stream
from tasks.experiment import Bench


@torch.no_grad()
def measure(learner: Any, stream: Stream, bench: Bench, *, samples: Count = 10) -> dict[str, float] | None:
    """``accuracy`` in [0, 1], the mean over drawn masks; Zhou et al. 2019 report this and not the rounded mask. None
    where nothing is drawn.

    Args:
        samples: masks drawn, 1 or more.

    """
    if not isinstance(learner, learners.Modulated):
        return None
    model = learner.model
    if not any(m.noisy for m in model.named_modulators().values()):
        return None

    def accuracy_of(number: int) -> float:
        return mean_accuracy(lambda x, task: model(x, draw=number, **call_kwargs(model, task)), stream)

    draws = [accuracy_of(number) for number in range(samples)]
    return {"accuracy": sum(draws) / len(draws)}
