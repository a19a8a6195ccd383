"""Write one task into a plain network that knows nothing of neuromod."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from neuromod.arguments import instance
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.seeds import generator
from neuromod.target.copying import copied, tensors_of
from neuromod.target.skeleton import plain_copy
from neuromod.target.substitute import LINEAR, NORMS, anatomy_of, fold, own_axes, reads_its_own
from neuromod.target.taps import BIAS, GAIN, broadcast


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
    folds |= frozenset(n for n in _tapped(given) if n not in folds and _folds_by_value(model, n))
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
    return list(dict.fromkeys(n.rpartition(".")[0] for n in edits if n.endswith((GAIN, BIAS))))


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
    moving = next(edits[n] for n in (f"{name}.{GAIN}", f"{name}.{BIAS}") if n in edits)
    if not isinstance(module, (*NORMS, *LINEAR)):
        return kind
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
    module = copied(model.skeleton.net).get_submodule(name)
    channel = next(s.channel for m in model.named_modulators().values() for s in m.sites if s.module == name)
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if (
        not isinstance(module, (*NORMS, *LINEAR))
        or not isinstance(weight, nn.Parameter)
        or bias is None
        or len(weight) != model.target.probe.calls[name][0].shape[channel]
        or name in _tied(model.skeleton.ties)
        or not reads_its_own(model.target.pristine.get_submodule(name), name, model.target.probe)
    ):
        return False
    rng = generator("bake", name)
    gain, shift = ((torch.rand(len(weight), generator=rng) + 0.5).to(weight) for _ in range(2))
    gain[::2] *= -1
    for sign in (1, -1):
        plain, moved = _before_and_after(model, name, gain, shift, sign)
        expected = broadcast(gain, plain, channel, None) * plain + broadcast(shift, plain, channel, None)
        if not torch.allclose(moved, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
            return False
    return True


# reason: a module, where it stands, and what is tried on it
def _before_and_after(model: Modulated, name: str, gain: Tensor, shift: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """What a module puts out of the example's input to it, times ``sign``, and with gain and shift in its own weight and bias."""
    seen: list[Any] = []
    net = copied(model.target.pristine, cloned=model.target.probe.written)
    watch = net.get_submodule(name).register_forward_pre_hook(lambda m, args: seen.append(args))
    net(*(x.clone() for x in model.target.example))
    watch.remove()
    args = [sign * a if isinstance(a, Tensor) and a.is_floating_point() else a for a in seen[0]]
    twin = copied(net.get_submodule(name), cloned=["weight", "bias"])
    output = twin(*args)
    twin.weight.mul_(gain.reshape(-1, *[1] * (twin.weight.ndim - 1)))  # type: ignore[operator]
    twin.bias.mul_(gain).add_(shift)  # type: ignore[operator]
    return output, twin(*args)


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
