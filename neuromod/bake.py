"""Write one task into a plain network that knows nothing of neuromod."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.target.copying import tensors_of
from neuromod.target.skeleton import plain_copy
from neuromod.target.substitute import LINEAR, NORMS, anatomy_of, fold
from neuromod.target.taps import BIAS, GAIN


@torch.no_grad()
def bake(model: Modulated, *, task: int | None = None, condition: int | Tensor | None = None) -> nn.Module:
    """A plain copy of the user's network, in eval mode, with one modulation written into its tensors: to export or to share.

    Original keys, original module types, same outputs. Tied weights stay tied, but for a task's own head (`Head`), which is for
    its one place: a warning names what is no longer tied. Refused: modulations conditioned on the input, and taps behind
    modules without a weight and bias of their own to take them (an activation, say).

    Args:
        model: modulators that read the task, the condition, or nothing.
        task: which task to write, where one is read.
        condition: which condition, (D,) or a label, where one is read.

    """
    for name, modulator in model.named_modulators().items():
        if modulator.reads not in ("task", "condition", "nothing"):
            raise RefusedError(
                f"a modulation that depends on the input can't be baked; {name!r} reads {modulator.reads!r}; keep the model"
            )
    net = _plain(model)
    anatomy = anatomy_of(net, (*NORMS, *LINEAR))
    edits = fold(net, model.edits(task=task, condition=condition), anatomy)
    written: dict[int, nn.Parameter] = {}
    for name, value in edits.items():
        _write(net, name, value, written)
    _say_untied(net, anatomy.ties)
    return net


def _say_untied(net: nn.Module, ties: Mapping[str, tuple[str, ...]]) -> None:
    now = tensors_of(net)
    for name, others in ties.items():
        apart = [other for other in others if now[other] is not now[name]]
        if apart:
            warnings.warn(f"baked for one place alone: {apart[0]!r} is no longer tied to {name!r}", stacklevel=3)


def _plain(model: Modulated) -> nn.Module:
    """A fresh copy of the pristine network, with weights of its own."""
    like = next(model.skeleton.net.parameters(), None)
    net = plain_copy(model.target.pristine)
    return net if like is None else net.to(like.device, like.dtype)


def _write(net: nn.Module, name: str, value: Tensor, written: dict[int, nn.Parameter]) -> None:
    """Write a tensor; one value under several names is one parameter, tied."""
    prefix, _, leaf = name.rpartition(".")
    module = net.get_submodule(prefix)
    if leaf in (GAIN, BIAS):
        kind = type(module).__name__
        raise RefusedError(
            f"a tap can be baked into a norm, a linear layer or a convolution; {prefix!r} is a {kind}; keep the model"
        )
    current = getattr(module, leaf, None)
    if current is None:
        raise RefusedError(
            f"a baked network keeps its keys; {prefix!r} has no {leaf}; build it with {leaf}=True (or affine=True)"
        )
    if leaf in module._buffers:
        module._buffers[leaf] = value.detach().clone()
        return
    if leaf == "weight" and isinstance(module, nn.Linear):
        module.out_features = value.shape[0]
    module._parameters[leaf] = written.setdefault(id(value), nn.Parameter(value.detach().clone()))
