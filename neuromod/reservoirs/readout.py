"""Readouts in closed form, in float64: sums over steps that add up, several ridges from one eigendecomposition, a choice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, flag, number, shown
from neuromod.errors import RefusedError, refusing
from neuromod.meta.dual import LinearHead
from neuromod.reservoirs.network import finite


@dataclass(frozen=True)
class Moments:
    """``X X^T`` and ``Y X^T`` over steps: all that a ridge needs of them. Moments of different sequences add up.

    Args:
        xx: (..., F, F).
        yx: (..., O, F).
        steps: how many were summed.

    """

    xx: Tensor
    yx: Tensor
    steps: int

    @classmethod
    def of(cls, features: Tensor, targets: Tensor) -> "Moments":
        """The moments of features (..., T, F) and targets (..., T, O), over T."""
        x, y = features.double(), targets.double()
        return cls(x.mT @ x, y.mT @ x, x.shape[-2])

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.xx + other.xx, self.yx + other.yx, self.steps + other.steps)

    def solve(self, ridges: Sequence[float]) -> Tensor:
        """``W = Y X^T (X X^T + r I)^-1`` (K, ..., O, F) for each of K ridges, from one eigendecomposition of ``X X^T``.

        One ridge alone is solved for, which costs a tenth of it. A ridge of 0 gives the least squares of smallest norm: directions
        that no state ever took are left out.
        """
        if len(ridges) == 1 and ridges[0] > 0:
            eye = torch.eye(self.xx.shape[-1], dtype=self.xx.dtype, device=self.xx.device)
            rule = f"a ridge makes X X^T invertible; {ridges[0]:g} is too small for these states"
            with refusing(rule, "raise it, or pass 0 for the smallest solution"):
                one: Tensor = torch.linalg.solve(self.xx + ridges[0] * eye, self.yx.mT).mT.unsqueeze(0)
                return one
        values, vectors = torch.linalg.eigh(self.xx)
        values = values.clamp_min(0)
        least = values[..., -1:] * torch.finfo(values.dtype).eps * values.shape[-1]
        turned = self.yx @ vectors
        found = []
        for ridge in ridges:
            kept = values + ridge > least
            inverse = torch.where(kept, 1 / torch.where(kept, values + ridge, 1.0), 0.0)
            found.append((turned * inverse.unsqueeze(-2)) @ vectors.mT)
        return torch.stack(found)


@dataclass(frozen=True)
class Readout:
    """``y = W_out [x; u; 1]``.

    Args:
        head: the weights on ``[x; u]`` (O, F), and the bias (O,); with a leading axis where reservoirs have a readout each.
        ridge: that was taken.
        held_out: NRMSE on the held-out steps by ridge, where one was chosen.

    """

    head: LinearHead
    ridge: float
    held_out: Mapping[float, float]

    def __call__(self, states: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Outputs (..., T, O) of states (..., T, N), and of the inputs (..., T, D) where the readout was fitted with them."""
        x = features(states, inputs)
        weight = torch.cat([self.head.weight, self.head.bias.unsqueeze(-1)], -1)
        if x.shape[-1] != weight.shape[-1]:
            raise RefusedError(
                f"a readout is called with what it was fitted on, {weight.shape[-1] - 1} numbers a step; got {x.shape[-1] - 1}; pass "
                "states, and inputs= if it was fitted with them"
            )
        each = weight.ndim == 3 and x.ndim == 4
        return x @ (weight.unsqueeze(1) if each else weight).mT


def features(states: Tensor, inputs: Tensor | None = None) -> Tensor:
    """``[x; u; 1]`` (..., T, N + D + 1) in float64. Refused: NaN, and inputs of other steps than the states."""
    x = finite(_steps(states, "states"), "states")
    parts = [x]
    if inputs is not None:
        u = finite(_steps(inputs, "inputs of a readout"), "inputs of a readout")
        if u.shape[-2] != x.shape[-2]:
            raise RefusedError(
                f"a readout takes inputs and states of the same steps; got {u.shape[-2]} and {x.shape[-2]}; cut them alike"
            )
        parts.append(_as_many(u, x, "inputs of a readout"))
    return torch.cat([*parts, x.new_ones(*x.shape[:-1], 1)], -1)


# reason: what is fitted, and on which steps, each by its name
def fit(
    states: Tensor,
    targets: Tensor,
    *,
    inputs: Tensor | None = None,
    ridge: float | Sequence[float] = 1e-8,
    washout: int = 0,
    held_out: int = 0,
    each: bool = False,
) -> Readout:
    """The readout of smallest squared error: ``W_out = Y X^T (X X^T + r I)^-1`` with ``X = [x; u; 1]``, in float64.

    Of several ridges the one is taken that has the smallest NRMSE on the last ``held_out`` steps of each sequence, fitted on the
    steps before these; the readout is then fitted again, on all of them.

    Refused: a ridge below 0, a wash-out or held-out steps that leave nothing, several ridges without held-out steps, NaN.

    Args:
        states: (T, N), (B, T, N), or (R, B, T, N) of R reservoirs with ``each``.
        targets: (T, O), or with the leading axes of the states, or without them where all share the targets.
        inputs: u to be read beside the states, shaped like the targets; none where None.
        ridge: r, 0 or more; or several.
        washout: steps of each sequence that are left out in front.
        held_out: steps at the end of each that choose between ridges.
        each: whether the first axis holds reservoirs, with a readout each (and one ridge for all).

    """
    ridges, each = _ridges(ridge), flag(each, "each")
    x, y = features(states, inputs), finite(_steps(targets, "targets"), "targets")
    if y.shape[-2] != x.shape[-2]:
        raise RefusedError(
            f"targets are of the steps of the states; got {y.shape[-2]} for {x.shape[-2]}; cut both to the same steps"
        )
    y = _as_many(y, x, "targets")
    length, skipped, last = x.shape[-2], count(washout, "washout"), count(held_out, "held_out")
    if skipped + last >= length:
        raise RefusedError(
            f"a wash-out and held-out steps leave steps to fit on; {skipped} and {last} of {length} leave none; shorten them, or pass "
            "longer sequences"
        )
    if len(ridges) > 1 and not last:
        raise RefusedError(
            f"a ridge is chosen on held-out steps; got {len(ridges)} ridges and none held out; pass held_out=500"
        )
    x, y = x[..., skipped:, :], y[..., skipped:, :]
    cut = length - skipped - last
    moments, errors = _summed(x[..., :cut, :], y[..., :cut, :], each=each), dict[float, float]()
    if last:
        apart = _summed(x[..., cut:, :], y[..., cut:, :], each=each)
        for r, weight in zip(ridges, moments.solve(ridges), strict=True):
            said = x[..., cut:, :] @ _for(weight, x, each=each).mT
            errors[r] = _error(said, y[..., cut:, :])
        moments = moments + apart
    best = min(ridges, key=lambda r: errors.get(r, 0.0))
    (weight,) = moments.solve([best])
    return Readout(LinearHead(weight[..., :-1], weight[..., -1]), best, errors)


def _as_many(values: Tensor, x: Tensor, what: str) -> Tensor:
    """Values (..., T, D) for every sequence of ``x`` (..., T, F), which may share them."""
    with refusing(f"{what} are of the sequences of the states, {tuple(x.shape[:-2])}", "match them"):
        return values.expand(*x.shape[:-1], values.shape[-1])


def _summed(x: Tensor, y: Tensor, *, each: bool) -> Moments:
    found = Moments.of(x, y)
    axes = tuple(range(1 if each else 0, x.ndim - 2))
    return Moments(found.xx.sum(axes), found.yx.sum(axes), found.steps) if axes else found


def _for(weight: Tensor, x: Tensor, *, each: bool) -> Tensor:
    return weight.reshape(len(weight), *[1] * (x.ndim - 3), *weight.shape[1:]) if each else weight


def _error(said: Tensor, wanted: Tensor) -> float:
    """NRMSE over the axis of steps, pooled over all outputs that change."""
    squared, variance = (said - wanted).square().mean(-2), wanted.var(-2, unbiased=False)
    return math.sqrt(float(squared.sum()) / max(float(variance.sum()), 1e-300))


def _ridges(ridge: Any) -> list[float]:
    several = isinstance(ridge, Sequence) and not isinstance(ridge, str | bytes)
    found = [number(r, "ridge", least=0) for r in (ridge if several else [ridge])]
    if not found:
        raise RefusedError("a readout has a ridge of 0 or more; got none; pass ridge=1e-8, say")
    return list(dict.fromkeys(found))


def _steps(values: Any, what: str) -> Tensor:
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim < 2 or not values.numel():
        raise RefusedError(f"{what} are real floats (..., steps, numbers); got {shown(values)}; reshape them")
    return values.detach().double()
