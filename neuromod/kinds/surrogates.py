"""Gradients of the discrete: threshold, top-k, Bernoulli and ternary masks with straight-through gradients.

Masks are exactly {0, 1}, or {-1, 0, 1}, in the dtype of their scores. Each function works under ``torch.func`` (``grad``, ``vmap``)
and inside a compiled graph.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromod.kinds import ranking


class _Threshold(torch.autograd.Function):
    @staticmethod
    def forward(score: Tensor, at: float, strict: bool) -> Tensor:
        # In place on a copy: a comparison that writes bools, and a cast from them, cost five times as much on a CPU.
        return score.clone().gt_(at) if strict else score.clone().ge_(at)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int | None]:
        return _Threshold.apply(*inputs), in_dims[0]


def threshold(score: Tensor, at: float = 0.0, *, strict: bool = False) -> Tensor:
    """``M = 1[s >= at]`` (``>`` if strict), with ``dL/ds = dL/dM`` (Bengio et al. 2013).

    >>> threshold(torch.tensor([-1.0, 0.0, 2.0])).tolist()
    [0.0, 1.0, 1.0]

    Args:
        score: of any shape; the mask has its shape and dtype.
        at: the threshold.
        strict: whether a score of exactly ``at`` is left out.

    """
    mask: Tensor = _Threshold.apply(score, at, strict)
    return mask


class _Ternary(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(score: Tensor, at: float) -> Tensor:
        return score.sign() * (score.abs() >= at)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def ternary(score: Tensor, at: float) -> Tensor:
    """``M = sign(s) 1[|s| >= at]``, -1, 0 or 1, with ``dL/ds = dL/dM`` (Koster et al. 2022).

    >>> ternary(torch.tensor([-1.0, 0.2, 2.0]), 0.5).tolist()
    [-1.0, 0.0, 1.0]
    """
    mask: Tensor = _Ternary.apply(score, at)
    return mask


class _OfScore(torch.autograd.Function):
    """A mask whose gradient is a function of its score."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])


class _TopK(_OfScore):
    @staticmethod
    def forward(score: Tensor, k: int) -> Tensor:
        return torch.ops.neuromod.largest(score, k)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (score,) = ctx.saved_tensors
        return grad * score.sign(), None


def top_k(score: Tensor, k: int) -> Tensor:
    """``M = 1`` on the ``k`` largest ``|s|`` of the whole tensor, with ``dL/ds = dL/dM * sign(s)``.

    Ties are broken by position (the earlier flat index is kept); NaN is refused. Ramanujan et al. 2020, section 3.

    >>> top_k(torch.tensor([3.0, -5.0, 1.0, 3.0]), 2).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    mask: Tensor = _TopK.apply(score, k)
    return mask


@torch.library.custom_op("neuromod::largest", mutates_args=())
def largest(score: Tensor, k: int) -> Tensor:
    """The exact mask of the ``k`` entries of largest magnitude: a selection (linear time), never a sort."""
    if k <= 0:
        return torch.zeros_like(score, memory_format=torch.contiguous_format)
    keep = _largest(score.detach().reshape(-1).abs(), k)
    # Viewed as bytes, for a cast from bool is several times slower on a CPU.
    return keep.view(torch.uint8).to(score.dtype).reshape(score.shape)


@largest.register_fake
def _(score: Tensor, k: int) -> Tensor:
    return torch.empty_like(score, memory_format=torch.contiguous_format)


@largest.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], score: Tensor, k: int) -> tuple[Tensor, int]:
    assert in_dims[0] is not None
    return torch.stack([largest(one, k) for one in score.movedim(in_dims[0], 0)]), 0


def _largest(flat: Tensor, k: int) -> Tensor:
    ranking.refuse_nan(flat)
    if flat.device.type != "cpu":
        return ranking.largest(flat, k)
    # Magnitudes rank like the integers that share their bits, and numpy selects among integers twice as fast as among floats.
    wide = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    ranks = wide.view(torch.int64 if wide.itemsize == 8 else torch.int32)
    filled = int(np.count_nonzero(ranks.numpy()))
    if filled > k:
        return ranking.largest(ranks, k)
    # Wires that a rule holds: the rest are zeros, and a selection among so many equals is several times slower.
    keep = ranks != 0
    keep[(~keep).nonzero().squeeze(1)[: k - filled]] = True
    return keep


class _Bernoulli(_OfScore):
    @staticmethod
    def forward(score: Tensor, noise: Tensor | None) -> Tensor:
        kept = score >= 0 if noise is None else noise < torch.sigmoid(score)
        return kept.view(torch.uint8).to(score.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (score,) = ctx.saved_tensors
        return torch.ops.aten.sigmoid_backward(grad, torch.sigmoid(score)), None


def bernoulli(score: Tensor, noise: Tensor | None = None) -> Tensor:
    """``M = 1[u < p]``, ``p = sigmoid(s)``, for uniform noise ``u``; ``1[p >= .5]`` without noise; ``dL/ds = dL/dM p (1 - p)``.

    Zhou et al. 2019, section 5.
    """
    mask: Tensor = _Bernoulli.apply(score, noise)
    return mask
