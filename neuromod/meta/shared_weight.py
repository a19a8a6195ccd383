"""A weight that many small products share, without a gradient as large as the weight for each of them."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SharedWeight:
    """``x W^T`` and ``x W`` of a weight (C, D), again and again in one graph.

    The gradient of every product is an outer product, as large as the weight; autograd would write and add each. Here their
    factors are kept, and the gradient is one product of matrices when the last of them is known. Differentiated once.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight, self._factors = weight.detach(), list[tuple[Tensor, Tensor]]()
        # Every product depends on the token, so its backward, the sum, runs after all of theirs.
        self._token: Tensor = _Sum.apply(weight, self._factors)

    def rows(self, x: Tensor) -> Tensor:
        """``x W^T``: (B, D) to (B, C)."""
        found: Tensor = _Product.apply(x, self._weight, self._token, self._factors, False)
        return found

    def columns(self, x: Tensor) -> Tensor:
        """``x W``: (B, C) to (B, D)."""
        found: Tensor = _Product.apply(x, self._weight, self._token, self._factors, True)
        return found


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.factors = factors
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> Any:
        left, right = (torch.cat(parts) for parts in zip(*ctx.factors, strict=True))
        ctx.factors.clear()
        return left.T @ right, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, token: Tensor, factors: list[tuple[Tensor, Tensor]], columns: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.factors, ctx.columns = factors, columns
        return x @ (weight if columns else weight.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        ctx.factors.append((x, gradient) if ctx.columns else (gradient, x))
        return gradient @ (weight.T if ctx.columns else weight), None, gradient.new_zeros(()), None, None
