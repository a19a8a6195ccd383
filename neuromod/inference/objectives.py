"""What a network looks like when its modulation fits the input: functions of logits that are small where it does.

All take logits (..., C) to (...). ``real`` is the number of outputs that stand for classes; those behind are *surplus*: no
label ever names them, so training pushes them down on the task's own inputs. None: all are real. -inf logits count as absent.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from neuromod.arguments import count, function, one_of, shown, tensor
from neuromod.errors import RefusedError

Objective = Callable[[Tensor], Tensor]
"""Logits (..., C) to (...), small where the modulation fits."""


def entropy(logits: Tensor, real: int | None = None) -> Tensor:
    """``H = -sum_c p_c log p_c`` of the softmax over all outputs, in [0, log C] (Wortsman et al. 2020, section 3.3)."""
    log_p = torch.log_softmax(_logits(logits, real), -1)
    return -(log_p.exp() * log_p.masked_fill(torch.isinf(log_p), 0.0)).sum(-1)


def surplus(logits: Tensor, real: int | None = None) -> Tensor:
    """``log sum_{c surplus} exp z_c``: G of Wortsman et al. 2020, section 3.4.

    The paper differentiates ``log sum_c exp z_c`` over all outputs with the real ones held constant. That gradient is
    this one times the probability of the surplus outputs, which is the same for all tasks: one input gets the same answer.
    """
    return torch.logsumexp(_surplus(logits, real, "surplus"), -1)


def margin(logits: Tensor, real: int | None = None) -> Tensor:
    """``log sum_{c surplus} exp z_c - log sum_{c real} exp z_c``: minus the log-odds that the output is real."""
    return torch.logsumexp(_surplus(logits, real, "margin"), -1) - torch.logsumexp(logits[..., :real], -1)


def max_probability(logits: Tensor, real: int | None = None) -> Tensor:
    """``-max_c p_c`` over the real outputs of the softmax over all (Hendrycks & Gimpel 2017)."""
    return -torch.softmax(_logits(logits, real), -1)[..., :real].amax(-1)


def max_logit(logits: Tensor, real: int | None = None) -> Tensor:
    """``-max_c z_c`` over the real outputs (Hendrycks et al. 2022)."""
    return -_logits(logits, real)[..., :real].amax(-1)


def energy(logits: Tensor, real: int | None = None) -> Tensor:
    """``-log sum_c exp z_c`` over the real outputs (Liu et al. 2020, eq. 4, temperature 1)."""
    return -torch.logsumexp(_logits(logits, real)[..., :real], -1)


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    f.__name__: f for f in (entropy, surplus, margin, max_probability, max_logit, energy)
}


def objective(name: str | Objective, real: int | None = None) -> Objective:
    """An objective by its name, told how many outputs are real; a function of logits is returned as it is."""
    if not isinstance(name, str):
        made: Objective = function(name, "an objective")
        return made
    one_of(name, "an objective", OBJECTIVES)
    return partial(OBJECTIVES[name], real=real)


def _logits(logits: Tensor, real: int | None) -> Tensor:
    if not tensor(logits, "logits").ndim or not logits.shape[-1]:
        raise RefusedError(f"logits are (..., C), one output at least; got {shown(logits)}; correct them")
    if real is not None:
        count(real, "real, the outputs that stand for classes,", least=1)
    return logits


def _surplus(logits: Tensor, real: int | None, name: str) -> Tensor:
    _logits(logits, real)
    if real is None or not 0 < real < logits.shape[-1]:
        raise RefusedError(
            f"{name} compares real with surplus outputs; got real={real} of {logits.shape[-1]}; pass real=classes of a task, "
            "of a network with more outputs than that"
        )
    return logits[..., real:]
