"""Inner optimisers as functions: a step takes tensors to new tensors, and everything in it can be differentiated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import number, shown
from neuromod.errors import RefusedError, nearest

Tensors = Mapping[str, Tensor]
"""Tensors by name."""
Rate = float | Tensor | Mapping[str, float | Tensor]
"""One rate for all, or one a name, a number or as large as what it moves. Tensors are rates that are learned (Li et al. 2017)."""


@dataclass(frozen=True, eq=False)
class SGD:
    """``w <- w - rate g``; with momentum ``v <- momentum v + g`` and ``w <- w - rate v``, ``v`` from 0."""

    rate: Rate
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        number(self.momentum, "momentum", least=0, below=1)

    def start(self, fast: Tensors) -> Any:
        """What the optimiser remembers before its first step."""
        _check(self.rate, fast)
        return {name: torch.zeros_like(w) for name, w in fast.items()} if self.momentum else None

    def step(self, fast: Tensors, gradients: Tensors, memory: Any) -> tuple[dict[str, Tensor], Any]:
        """The tensors after a step along their gradients, and what is remembered of it.

        Args:
            fast: tensors by name.
            gradients: of the same names.
            memory: what `start` or the step before returned.

        """
        if self.momentum:
            gradients = memory = {name: self.momentum * memory[name] + g for name, g in gradients.items()}
        return {name: _less(w, self.rate, name, gradients[name]) for name, w in fast.items()}, memory


@dataclass(frozen=True, eq=False)
class Adam:
    """``w <- w - rate m / sqrt(v + eps^2)`` of bias-corrected moments (Kingma & Ba 2015).

    ``eps`` stands inside the root: outside of it, the derivative of the step is not finite where a gradient is exactly zero,
    as it is for every unit that a ReLU has shut.

    Args:
        rate: one for all, or one for each name, a number or as large as what it moves.
        betas: decay of the first and the second moment, in [0, 1).
        eps: see above.

    """

    rate: Rate
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        number(self.eps, "eps", above=0)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise RefusedError(f"betas are two numbers in [0, 1); got {shown(self.betas)}; (0.9, 0.999) is usual")
        for beta in self.betas:
            number(beta, "a beta of Adam", least=0, below=1)

    def start(self, fast: Tensors) -> Any:
        """What the optimiser remembers before its first step."""
        _check(self.rate, fast)
        zeros = {name: torch.zeros_like(w) for name, w in fast.items()}
        return 0, zeros, zeros

    def step(self, fast: Tensors, gradients: Tensors, memory: Any) -> tuple[dict[str, Tensor], Any]:
        """The tensors after a step along their gradients, and what is remembered of it.

        Args:
            fast: tensors by name.
            gradients: of the same names.
            memory: what `start` or the step before returned.

        """
        (one, two), (count, first, second) = self.betas, memory
        count += 1
        first = {name: one * first[name] + (1 - one) * g for name, g in gradients.items()}
        second = {name: two * second[name] + (1 - two) * g.square() for name, g in gradients.items()}
        moved = {}
        for name, w in fast.items():
            size = (second[name] / (1 - two**count) + self.eps**2).sqrt()
            moved[name] = w - _of(self.rate, name) * (first[name] / (1 - one**count)) / size
        return moved, (count, first, second)


InnerOptimiser = SGD | Adam


def check_optimiser(optimiser: Any) -> None:
    """Refuse what takes no steps on a dict of tensors: an optimiser of torch, a class in the place of an instance."""
    if isinstance(optimiser, type) or not all(hasattr(optimiser, name) for name in ("start", "step", "rate")):
        raise RefusedError(
            f"inner steps are those of neuromod.meta.SGD or Adam, which differentiate; got {shown(optimiser)}; pass SGD(0.1), say"
        )


def _less(w: Tensor, rate: Rate, name: str, gradient: Tensor) -> Tensor:
    # A number is a factor inside the sum: one pass over the tensor, and one in its derivative (two in that of a difference).
    own = _of(rate, name)
    return w - own * gradient if isinstance(own, Tensor) else torch.add(w, gradient, alpha=-own)


def _of(rate: Rate, name: str) -> float | Tensor:
    return rate[name] if isinstance(rate, Mapping) else rate


def _check_rate(rate: Any) -> None:
    """Refuse a rate that is no finite number, no tensor of floats, and no such for each name; what is learned may be any number."""
    for own in rate.values() if isinstance(rate, Mapping) else [rate]:
        if not (isinstance(own, Tensor) and own.is_floating_point()):
            number(own, "rate")


def _check(rate: Rate, fast: Tensors) -> None:
    for name, w in fast.items():
        if isinstance(rate, Mapping) and name not in rate:
            raise RefusedError(
                f"learned rates need one for every fast tensor; {name!r} has none; nearest: {nearest(name, rate)}"
            )
        own = _of(rate, name)
        if isinstance(own, Tensor) and own.ndim and (own.shape != w.shape or own.dtype != w.dtype):
            got = f"{tuple(own.shape)} of {own.dtype} for {tuple(w.shape)} of {w.dtype}"
            raise RefusedError(
                f"a learned rate is a number or as large as what it moves; {name!r} has {got}; correct it"
            )
