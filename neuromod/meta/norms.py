"""Norms whose second derivatives are right under `torch.vmap`.

`F.batch_norm`, `F.instance_norm` and `F.layer_norm` that carry their own gain and shift give wrong second-order gradients
through a `vmap` over tasks, without a word (errors of 8 % of the largest entry; a test shows it). Normalising first and scaling
then is exact, and so is `F.group_norm`.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from neuromod.errors import RefusedError


class _ChannelNorm(nn.Module):
    def __init__(self, channels: int, eps: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.weight, self.bias = _affine(channels, affine)


class BatchNorm(_ChannelNorm):
    """Batch statistics over all axes but the channels, then gain and shift; no running statistics are kept or read.

    Args:
        channels: of the second axis.
        eps: added to the variance.
        affine: whether gain and shift are learned; otherwise there are none.

    """

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, C, ...) to the same shape."""
        return _scaled(F.batch_norm(x, None, None, None, None, True, 0.0, self.eps), self.weight, self.bias)


class InstanceNorm(_ChannelNorm):
    """Statistics of each channel of each sample, then gain and shift; made as a `BatchNorm` is."""

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, C, ...) to the same shape. RefusedError for one that is not a batch."""
        if x.ndim < 3:
            raise RefusedError(f"an instance norm reads batches (B, C, ...); got {tuple(x.shape)}; unsqueeze it")
        # One group a channel is instance norm, and its fused kernel is right twice over.
        return F.group_norm(x, self.channels, self.weight, self.bias, self.eps)


class LayerNorm(nn.Module):
    """Statistics over the last axes, then gain and shift.

    Args:
        shape: of those axes.
        eps: added to the variance.
        affine: whether gain and shift are learned; otherwise there are none.

    """

    def __init__(self, shape: int | tuple[int, ...], eps: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__()
        self.shape, self.eps = (shape,) if isinstance(shape, int) else tuple(shape), eps
        self.weight, self.bias = _affine(self.shape, affine)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., *shape) to the same shape."""
        h = F.layer_norm(x, self.shape, eps=self.eps)
        if self.weight is not None:
            h = h * self.weight
        return h if self.bias is None else h + self.bias


def exact(net: nn.Module) -> nn.Module:
    """A copy of a network with its norms of batch, instance and layer replaced by those of this file, parameters and all.

    A `BatchNorm` comes to take the statistics of its batch; one in evaluation mode, with running statistics, is exact and stays.
    RefusedError for a norm that does more: a subclass, hooks, an instance norm with running statistics.
    """
    copy, made = deepcopy(net), dict[nn.Module, nn.Module]()
    # A norm that stands in two places is one norm in both.
    for name, module in list(copy.named_modules(remove_duplicate=False)):
        if not _inexact(module):
            continue
        _check_plain(module, name)
        new = made.setdefault(module, _exact(module))
        if not name:
            return new
        parent, _, leaf = name.rpartition(".")
        setattr(copy.get_submodule(parent), leaf, new)
    return copy


def check_exact(net: nn.Module) -> None:
    """Refuse a network with a norm that `exact` would replace."""
    for name, module in net.named_modules():
        if _inexact(module):
            kind = type(module).__name__
            raise RefusedError(
                f"norms must be exact at second order; {name or 'the network'} is a {kind}; pass neuromod.meta.exact(net)"
            )


def _inexact(module: nn.Module) -> bool:
    if isinstance(module, _BatchNorm):
        # With running statistics in evaluation mode it is a constant map.
        return module.training or not module.track_running_stats
    return isinstance(module, _InstanceNorm | nn.LayerNorm)


def _check_plain(module: nn.Module, name: str) -> None:
    hooks = len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
    running = isinstance(module, _InstanceNorm) and module.track_running_stats
    if not type(module).__module__.startswith("torch.nn.modules.") or hooks or running:
        got = f"{name or 'the network'}, a {type(module).__name__} with {hooks} hooks and running={running}"
        raise RefusedError(f"exact() replaces norms that do nothing else; got {got}; replace it by hand")


def _exact(module: nn.Module) -> nn.Module:
    made: BatchNorm | InstanceNorm | LayerNorm
    if isinstance(module, _BatchNorm):
        made = BatchNorm(module.num_features, module.eps, affine=module.affine)
    elif isinstance(module, _InstanceNorm):
        made = InstanceNorm(module.num_features, module.eps, affine=module.affine)
    else:
        assert isinstance(module, nn.LayerNorm)
        made = LayerNorm(module.normalized_shape, module.eps, affine=module.elementwise_affine)
    # The parameters themselves: their dtype, device and values, and ties to others, stay.
    made.weight, made.bias = module.weight, module.bias
    return made


def _affine(shape: int | tuple[int, ...], affine: bool) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    if not affine:
        return None, None
    return nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))


def _scaled(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    shape = (-1, *[1] * (h.ndim - 2))
    if weight is not None:
        h = h * weight.view(shape)
    return h if bias is None else h + bias.view(shape)
