"""Write one task into a plain network that knows nothing of neuromod."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.utils import _pytree as pytree

from neuromod.arguments import instance
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.seeds import generator
from neuromod.target.copying import copied, tensors_of
from neuromod.target.skeleton import plain_copy
from neuromod.target.substitute import LINEAR, NORMS, anatomy_of, fold, own_axes, reads_its_own
from neuromod.target.taps import MIX, OUTPUT_TAP, broadcast


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
    instance(model, Modulated, "the model that is baked")
    for name, modulator in model.named_modulators().items():
        if modulator.reads not in ("task", "condition", "nothing"):
            raise RefusedError(
                f"a modulation that depends on the input can't be baked; {name!r} reads {modulator.reads!r}; keep the model"
            )
    net = _plain(model)
    anatomy, given = anatomy_of(net, model.target.probe, (*NORMS, *LINEAR)), model.edits(task=task, condition=condition)
    sites = (s for m in model.named_modulators().values() for s in m.sites if s.role == "output")
    across = {s.module for s in sites if s.channel not in own_axes(net.get_submodule(s.module))}
    folds = anatomy.folds - across
    mixing = {n for n in _tapped(given) if f"{n}.{MIX}" in given}
    folds |= frozenset(n for n in _tapped(given) if n not in folds | mixing and _folds_by_value(model, n))
    edits = fold(net, given, replace(anatomy, folds=folds))
    for name in _tapped(edits):
        why = _why(model, edits, name, across=name in across)
        raise RefusedError(
            f"a tap can be baked into a norm, a linear layer or a convolution of its own; {name!r} is a {why}; keep the model"
        )
    written: dict[int, nn.Parameter] = {}
    for name, value in edits.items():
        _write(net, name, value, written)
    _say_untied(net, anatomy.ties)
    return net


def _tapped(edits: Mapping[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(n.rpartition(".")[0] for n in edits if n.endswith(OUTPUT_TAP)))


def _tied(ties: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {n.rpartition(".")[0] for first, others in ties.items() for n in (first, *others)}


def _why(model: Modulated, edits: Mapping[str, Tensor], name: str, *, across: bool) -> str:
    """What keeps a tap from being baked into its module.

    Args:
        model: of the module.
        edits: by name, as they are after folding.
        name: of the module.
        across: whether the tap lies along another axis than the module's weight.

    """
    module = model.target.pristine.get_submodule(name)
    kind, weight = type(module).__name__, getattr(module, "weight", None)
    moving = next(edits[n] for n in (f"{name}.{slot}" for slot in OUTPUT_TAP) if n in edits)
    if not isinstance(module, (*NORMS, *LINEAR)):
        return kind
    if f"{name}.{MIX}" in edits and isinstance(module, NORMS):
        return f"{kind} whose channels are mixed"
    if isinstance(weight, Tensor) and weight.dtype != moving.dtype:
        return f"{kind} of {weight.dtype}, and its modulation is {moving.dtype}"
    if across:
        return f"{kind} that is modulated along another axis than its own"
    if name in _tied(model.skeleton.ties):
        return f"{kind} whose tensors are tied to others"
    if not reads_its_own(module, name, model.target.probe):
        return f"{kind} whose weight or bias the network reads elsewhere too"
    if module._forward_hooks or "forward" in module.__dict__:
        return f"{kind} with hooks"
    if not isinstance(weight, Tensor) or len(weight) != moving.shape[-1] or isinstance(module, _ConvTransposeNd):
        return f"{kind} without a weight per channel"
    return f"{kind} that does more than its affine map"


def _folds_by_value(model: Modulated, name: str) -> bool:
    """Whether gain and shift behind a foreign norm or layer, seen on the example, are those of its own weight and bias."""
    module = model.target.pristine.get_submodule(name)
    channel = next(s.channel for m in model.named_modulators().values() for s in m.sites if s.module == name)
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if (
        not isinstance(module, (*NORMS, *LINEAR))
        or not isinstance(weight, nn.Parameter)
        or bias is None
        or len(weight) != model.target.probe.calls[name][0].shape[channel]
        or name in _tied(model.skeleton.ties)
        or not reads_its_own(module, name, model.target.probe)
    ):
        return False
    rng = generator("bake", name)
    gain, shift = ((torch.rand(len(weight), generator=rng) + 0.5).to(weight) for _ in range(2))
    gain[::2] *= -1
    plain = copied(module, cloned=["weight", "bias"])
    moved = copied(module, cloned=["weight", "bias"])
    moved.weight.mul_(gain.reshape(-1, *[1] * (weight.ndim - 1)))  # type: ignore[operator]
    moved.bias.mul_(gain).add_(shift)  # type: ignore[operator]
    args, kwargs = _call_of(model, name)
    for factor in (1, -1, 100):  # an activation may leave the example's own values alone
        scaled = pytree.tree_map(lambda a, factor=factor: factor * a if _is_float(a) else a, (args, kwargs))
        h = plain(*scaled[0], **scaled[1])
        expected = broadcast(gain, h, channel, None) * h + broadcast(shift, h, channel, None)
        found = moved(*scaled[0], **scaled[1])
        if not torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
            return False
    return True


def _call_of(model: Modulated, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is first called with where the target runs on its example."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    net = copied(model.target.pristine, cloned=model.target.probe.written)
    net.get_submodule(name).register_forward_pre_hook(
        lambda m, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    net(*(x.clone() for x in model.target.example))
    return seen[0]


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _say_untied(net: nn.Module, ties: Mapping[str, tuple[str, ...]]) -> None:
    now = tensors_of(net)
    for name, others in ties.items():
        apart = [other for other in others if now[other] is not now[name]]
        if apart:
            warnings.warn(f"baked for one place alone: {apart[0]!r} is no longer tied to {name!r}", stacklevel=3)


def _plain(model: Modulated) -> nn.Module:
    """A fresh copy of the pristine network, with weights of its own; each tensor in the dtype and on the device of the model's."""
    net = plain_copy(model.target.pristine)
    now = {id(tensor): model.skeleton.tensors[name] for name, tensor in tensors_of(net).items()}
    moved: nn.Module = net._apply(lambda t: t.to(now[id(t)].device, now[id(t)].dtype))
    return moved


def _write(net: nn.Module, name: str, value: Tensor, written: dict[int, nn.Parameter]) -> None:
    """Write a tensor; one value under several names is one parameter, tied."""
    prefix, _, leaf = name.rpartition(".")
    module = net.get_submodule(prefix)
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
