"""What is left of a trained network when every weight of a layer gets one size: its signs alone."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.analysis import signed_constant
from tasks.continual import learners
from tasks.continual.learners.base import accuracy
from tasks.continual.streams import Split, Stream
from tasks.experiment import Bench

CHOSEN_ON = 5000  # training images that the density of a criterion is chosen on


def measure(learner: Any, stream: Stream, bench: Bench) -> dict[str, float] | None:
    """Accuracy in [0, 1] of a dense network under trained signs, and under those of its start, no weight removed.

    Measured beside masks by criterion (measure ``criteria``), which it is to be compared with; None without them.
    """
    if not isinstance(learner, learners.Dense) or "criteria" not in bench.measured:
        return None
    initial, final = trained_weights(learner)
    signs = {"final_signs": signed_constant(final), "initial_signs": signed_constant(initial)}
    return {label: accuracy_with(learner.net, weights, stream) for label, weights in signs.items()}


def trained_weights(learner: "learners.Dense") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of two axes or more by name: as they started, and as they are."""
    final = {name: p.detach() for name, p in learner.net.named_parameters() if p.ndim > 1}
    return {name: learner.start[name].to(value) for name, value in final.items()}, final


@torch.no_grad()
def accuracy_with(net: nn.Module, weights: Mapping[str, Tensor], stream: Stream, *, train: bool = False) -> float:
    """Accuracy in [0, 1] of a copy of a network with other weights, the mean over tasks.

    Args:
        net: copied, left as it is.
        weights: by parameter name, of the parameters' shapes; the others stay.
        train: on the first training images (5,000 per task) in the place of the test images.

    """
    copy = deepcopy(net).eval()
    own = dict(copy.named_parameters())
    for name, value in weights.items():
        own[name].copy_(value)
    return mean_accuracy(lambda x, task: copy(x), stream, train=train)


def mean_accuracy(call: Callable[[Tensor, int], Tensor], stream: Stream, *, train: bool = False) -> float:
    """The mean over tasks of the share in [0, 1] that a call classifies right.

    Args:
        call: inputs (B, ...) and the number of their task to logits (B, outputs).
        train: on the first training images (5,000 per task) in the place of the test images.

    """
    values = []
    for number, task in enumerate(stream):
        seen = Split(task.train.images[:CHOSEN_ON], task.train.labels[:CHOSEN_ON]) if train else task.test
        values.append(accuracy(call, replace(task, test=seen), number, 1000))
    return sum(values) / len(values)
