"""A batch that mixes tasks, for a network that runs one task at a time."""

from collections.abc import Callable

import torch
from torch import Tensor


def apart(one: Callable[[Tensor, int], Tensor], x: Tensor, task: int | Tensor) -> Tensor:
    """``one(x[task == t], t)`` for every t in the batch, back in the order of the samples: (B, ...) to (B, outputs)."""
    if isinstance(task, int):
        return one(x, task)
    places = [(task == t).nonzero().squeeze(1) for t in task.unique()]
    parts = [one(x[place], int(task[place[0]])) for place in places]
    return torch.cat(parts)[torch.cat(places).argsort()]
