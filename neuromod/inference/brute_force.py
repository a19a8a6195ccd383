"""Task inference by trying every task: k forwards."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neuromod.errors import RefusedError
from neuromod.inference.objectives import entropy
from neuromod.modulated import Modulated


@torch.no_grad()
def brute_force(
    model: Modulated, x: Tensor, *, tasks: Sequence[int], objective: Callable[[Tensor], Tensor] = entropy
) -> Tensor:
    """Scores (B, k) of the learned ``tasks`` for every input: minus the objective of the task's own logits.

    One forward a task. For inputs that share an unknown task sum the scores over them: ``scores.sum(0).argmax()``.
    """
    if not tasks:
        raise RefusedError("task inference needs learned tasks; got none; pass tasks=model.tasks()")
    return torch.stack([-objective(model(x, task=task)) for task in tasks], 1)
