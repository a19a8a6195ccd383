"""The skeleton: a private copy of the user's network that shares its parameters, clones its buffers and carries taps."""

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from neuromod.errors import RefusedError
from neuromod.target.sites import Site
from neuromod.target.taps import add_tap

RATE = "neuromod_dropout"
ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


def build(net: nn.Module, taps: Iterable[Site] = (), *, norm: str = "frozen", dropout: bool = False) -> nn.Module:
    """Copy ``net``: parameters share storage and ask for no gradient, buffers are clones, ``taps`` are in place.

    Tied weights stay tied. With ``norm="batch"`` the BatchNorm layers never update a buffer: in training they use the
    statistics of the batch, in evaluation the running statistics that they are given.
    """
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in net.parameters()}
    skeleton = copy.deepcopy(net, memo)
    for module in skeleton.modules():
        if norm == "batch" and isinstance(module, _BatchNorm):
            module.track_running_stats = False
        if not dropout and isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.__dict__.setdefault(RATE, module.dropout)
            module.dropout = 0.0
    for site in taps:
        add_tap(skeleton.get_submodule(site.module), site)
    return set_mode(skeleton, training=False, norm=norm, dropout=dropout)


def restored(pristine: nn.Module) -> nn.Module:
    """A plain network again: a copy in eval mode with weights of its own, that train as usual."""
    net = copy.deepcopy(pristine)
    for module, original in zip(net.modules(), pristine.modules(), strict=True):
        module.training = False
        if hasattr(original, RATE):
            module.dropout = original.__dict__[RATE]
            del module.__dict__[RATE]
    return net.requires_grad_(True)


def set_mode(skeleton: nn.Module, *, training: bool, norm: str, dropout: bool) -> nn.Module:
    """Eval mode for all but: BatchNorm under ``norm="batch"``, dropout on request, RNNs (cuDNN's backward needs it).

    Attention stays in train mode, without dropout, because in eval mode its fused path has no derivative and runs
    none of the submodules that a tap sits on.
    """
    skeleton.eval()
    for module in skeleton.modules():
        follows = (
            (norm == "batch" and isinstance(module, _BatchNorm))
            or (dropout and isinstance(module, _DropoutNd))
            or isinstance(module, nn.RNNBase)
        )
        attends = isinstance(module, ATTENTION) and (training or not dropout)
        module.training = attends or (training and follows)
    return skeleton


class _ReachedError(Exception):
    """Ends a forward as soon as the wanted module has put out."""


def activation(skeleton: nn.Module, name: str, inputs: tuple[Tensor, ...], batch: int | None) -> Tensor:
    """The output of module ``name`` in one unmodulated forward that stops there, batch axis first."""
    found: list[Tensor] = []

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _ReachedError

    handle = skeleton.get_submodule(name).register_forward_hook(stop)
    try:
        skeleton(*inputs)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    if batch is None:
        raise RefusedError(
            f"a code is read from an output whose batch axis is known; {name!r} folds the batch; pick another module"
        )
    return found[0].movedim(batch, 0)
