"""Gradients of the discrete: threshold, top-k and Bernoulli masks with straight-through gradients.

Masks are exactly {0, 1} in the dtype of their scores. Each function works under ``torch.func`` (``grad``, ``vmap``)
and inside a compiled graph.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromod.errors import RefusedError


class _Threshold(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(score: Tensor, at: float, strict: bool) -> Tensor:
        return (score > at if strict else score >= at).to(score.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None


def threshold(score: Tensor, at: float = 0.0, *, strict: bool = False) -> Tensor:
    """``M = 1[s >= at]`` (``>`` if strict), with ``dL/ds = dL/dM`` (Bengio et al. 2013).

    >>> threshold(torch.tensor([-1.0, 0.0, 2.0])).tolist()
    [0.0, 1.0, 1.0]
    """
    mask: Tensor = _Threshold.apply(score, at, strict)  # type: ignore[no-untyped-call]
    return mask


class _TopK(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(score: Tensor, k: int) -> Tensor:
        return torch.ops.neuromod.largest(score.abs(), k)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

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
    mask: Tensor = _TopK.apply(score, k)  # type: ignore[no-untyped-call]
    return mask


@torch.library.custom_op("neuromod::largest", mutates_args=())
def largest(magnitude: Tensor, k: int) -> Tensor:
    """The exact mask of the ``k`` largest entries: a selection (linear time), never a sort."""
    flat = magnitude.detach().reshape(-1)
    if k <= 0:
        return torch.zeros_like(magnitude, memory_format=torch.contiguous_format)
    if flat.device.type == "cpu":
        bound = _kth_largest_cpu(flat, k)
    else:
        bound = torch.topk(flat, k, sorted=False).values.amin()
    keep = flat >= bound
    if int(keep.sum()) != k:
        keep = _break_ties(flat, bound, k)
    return keep.to(magnitude.dtype).reshape(magnitude.shape)


@largest.register_fake
def _(magnitude: Tensor, k: int) -> Tensor:
    return torch.empty_like(magnitude, memory_format=torch.contiguous_format)


def _kth_largest_cpu(flat: Tensor, k: int) -> Tensor:
    # numpy's introselect is 8-15 times faster than torch.kthvalue and torch.topk on millions of entries.
    wide = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    position = flat.numel() - k
    return torch.as_tensor(np.partition(wide.numpy(), position)[position]).to(flat.dtype)


def _break_ties(flat: Tensor, bound: Tensor, k: int) -> Tensor:
    if bool(torch.isnan(flat).any()):
        raise RefusedError("scores must be finite to be ranked; got NaN; lower the learning rate or check the loss")
    above, level = flat > bound, flat == bound
    return above | (level & (level.cumsum(0) <= k - above.sum()))


class _Bernoulli(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(score: Tensor, noise: Tensor | None) -> Tensor:
        return (score >= 0 if noise is None else noise < torch.sigmoid(score)).to(score.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (score,) = ctx.saved_tensors
        p = torch.sigmoid(score)
        return grad * p * (1 - p), None


def bernoulli(score: Tensor, noise: Tensor | None = None) -> Tensor:
    """``M = 1[u < p]``, ``p = sigmoid(s)``, for uniform noise ``u``; ``1[p >= .5]`` without noise; ``dL/ds = dL/dM p (1 - p)``.

    Zhou et al. 2019, section 5.
    """
    mask: Tensor = _Bernoulli.apply(score, noise)  # type: ignore[no-untyped-call]
    return mask
