"""Parameters that a backward pass did not reach stay as they are, also where their gradients are set to zero and not to None."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from neuromod.arguments import shown
from neuromod.errors import RefusedError


def skip_untouched(optimizer: torch.optim.Optimizer) -> RemovableHandle:
    """Keep a step from moving parameters that no backward pass reached since the step before; undone by ``.remove()``.

    A zero is a gradient: after ``optimizer.zero_grad(set_to_none=False)`` momentum, Adam and weight decay move the rows of tasks
    that were not in the batch. With this hook they stay, bit for bit as under ``set_to_none=True``. It asks which parameters a
    gradient was accumulated in; one that was written by hand counts where it is not zero.

    Refused: an optimiser that calls the backward pass itself (LBFGS).
    """
    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
        raise RefusedError(
            f"untouched parameters are skipped by optimisers that step after a backward; got {shown(type(optimizer).__name__)}; "
            "use zero_grad(set_to_none=True)"
        )
    reached: set[int] = set()
    watched: dict[int, Tensor] = {}

    def watch() -> None:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            if id(parameter) not in watched and parameter.requires_grad:
                watched[id(parameter)] = parameter
                parameter.register_post_accumulate_grad_hook(lambda p: reached.add(id(p)))
                # One that joined later has had its backward already: a gradient that it has was accumulated.
                reached.update([id(parameter)] * (parameter.grad is not None))

    def before(*_: Any) -> None:
        watch()
        for name, parameter in watched.items():
            if name not in reached and parameter.grad is not None and not bool(parameter.grad.any()):
                parameter.grad = None
        reached.clear()

    watch()
    reached.clear()
    return optimizer.register_step_pre_hook(before)
