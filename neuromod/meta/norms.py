"""Norms whose second derivatives are right under `torch.vmap`.

`F.batch_norm`, `F.instance_norm` and `F.layer_norm` that carry their own gain and shift give wrong second-order gradients
through a `vmap` over tasks, without a word (errors of 8 % of the largest entry; a test shows it). Normalising first and scaling
then is exact, and so is `F.group_norm`. Inner loops run under `unfused`, which does that to every such call, whoever makes it: a
network's own, or a norm whose gain a modulator writes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from neuromod.arguments import count, flag, instance, number
from neuromod.errors import RefusedError

NATIVE = ("native_layer_norm", "native_batch_norm", "_native_batch_norm_legit", "_batch_norm_impl_index")


class Unfused(TorchFunctionMode):
    """Inside, norms are computed without their gain and shift, which are multiplied and added behind them.

    Refused: what is wrong or impossible there, native norms and recurrent layers under `torch.vmap`.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Call ``func``, or what stands in its place."""
        return _UNFUSED.get(func, func)(*args, **(kwargs or {}))


def unfused() -> AbstractContextManager[Any]:
    """`Unfused` inside a transformation of `torch.func`, where fused norms are wrong; elsewhere nothing."""
    inside = not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None
    # One mode is enough: each is asked at every call of torch.
    if not inside or any(isinstance(mode, Unfused) for mode in _get_current_function_mode_stack()):
        return nullcontext()
    return Unfused()


class _ChannelNorm(nn.Module):
    def __init__(self, channels: int, eps: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.eps = count(channels, "channels", least=1), number(eps, "eps", least=0)
        self.weight, self.bias = _affine(self.channels, affine)


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
        sizes = shape if isinstance(shape, tuple | list | torch.Size) else (shape,)
        self.shape = tuple(count(n, "a size of a layer norm", least=1) for n in sizes)
        self.eps = number(eps, "eps", least=0)
        if not self.shape:
            raise RefusedError("a layer norm has axes to normalise over; got none; pass their sizes")
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
    copy, made = deepcopy(instance(net, nn.Module, "net")), dict[nn.Module, nn.Module]()
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
    for name, module in instance(net, nn.Module, "net").named_modules():
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
    if not flag(affine, "affine"):
        return None, None
    return nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))


def _scaled(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    shape = (-1, *[1] * (h.ndim - 2))
    return _moved(h, *(None if t is None else t.reshape(shape) for t in (weight, bias)))


def _moved(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = h if weight is None else h * weight
    # A norm puts out the dtype of its input, also where its gain has another.
    return (scaled if bias is None else scaled + bias).to(h.dtype)


# ---- the signatures of torch ---------------------------------------------------------------------------------------


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _moved(F.layer_norm(input, list(normalized_shape), None, None, eps), weight, bias)


# reason: the arguments of F.batch_norm
def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return _scaled(F.batch_norm(input, running_mean, running_var, None, None, training, momentum, eps), weight, bias)


# reason: the arguments of F.instance_norm
def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    h = F.instance_norm(input, running_mean, running_var, None, None, use_input_stats, momentum, eps)
    return _scaled(h, weight, bias)


def _other_order(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same in the order of torch.batch_norm and torch.instance_norm, where weight and bias come first."""
    names = ("input", "weight", "bias", "running_mean", "running_var", None, "momentum", "eps", "cudnn_enabled")

    def ordered(*args: Any, **kwargs: Any) -> Tensor:
        told = dict(zip(names, args, strict=False)) | kwargs
        told.pop("cudnn_enabled", None)
        # "training" of the one, "use_input_stats" of the other.
        used = told.pop(None, None)
        training = told.pop("training", told.pop("use_input_stats", used))
        x, mean, var, weight, bias = (told[n] for n in ("input", "running_mean", "running_var", "weight", "bias"))
        return norm(x, mean, var, weight, bias, training, told["momentum"], told["eps"])

    return ordered


def _refused(*_: Any, **__: Any) -> Tensor:
    raise RefusedError(
        "norms must be exact at second order; native ones and those of torch.ops.aten are not, under vmap; call F.layer_norm or "
        "F.batch_norm"
    )


def _native() -> Iterator[Any]:
    """Every name of torch under which a norm runs that has the fused derivative."""
    for name in ("layer_norm", "batch_norm", "instance_norm", *NATIVE):
        packet = getattr(torch.ops.aten, name)
        yield from (packet, *(getattr(packet, overload) for overload in packet.overloads()))
    yield from (getattr(torch, name) for name in NATIVE if hasattr(torch, name))


def _recurrent(layer: Callable[..., Any]) -> Callable[..., Any]:
    """A recurrent layer of torch, which has no batched form: refused where tasks run side by side."""

    def called(*args: Any, **kwargs: Any) -> Any:
        stack = torch._C._functorch.get_interpreter_stack() or []
        if any(level.key() == torch._C._functorch.TransformType.Vmap for level in stack):
            raise RefusedError(
                f"tasks run side by side under torch.vmap, which has no {layer.__name__}; got a recurrent layer; pass "
                "engine='autograd', or adapt() task by task"
            )
        return layer(*args, **kwargs)

    return called


_UNFUSED: dict[Any, Callable[..., Any]] = {
    **{layer: _recurrent(layer) for layer in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)},
    **dict.fromkeys(_native(), _refused),
    F.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    torch.layer_norm: _layer_norm,
    torch.batch_norm: _other_order(_batch_norm),
    torch.instance_norm: _other_order(_instance_norm),
}
