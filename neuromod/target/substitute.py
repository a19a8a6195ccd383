"""The one mechanism: a modulation is a dict of tensors, and applying it is `torch.func.functional_call`.

This is the only file that calls it. `put` makes one call, `fold` moves taps into a layer's own weight and bias;
`neuromod.batches` decides how many calls a batch needs.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from neuromod.errors import RefusedError
from neuromod.target.axes import spatial
from neuromod.target.copying import tensors_of
from neuromod.target.probe import Probe
from neuromod.target.taps import GAIN, MIX, OUTPUT_TAP

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
# Their kernels are silently wrong at second order under vmap where the gain is mapped: there a tap on them stays a tap.
FIRST_ORDER = (_NormBase, nn.LayerNorm)
LINEAR = (nn.Linear, _ConvNd)
Edits = dict[str, Tensor]


@dataclass(frozen=True)
class Anatomy:
    """What is read off a skeleton once and asked at every call, because looking it up walks over all modules or tensors.

    Args:
        folds: names of the modules whose one-row taps `fold` may move into their own weight and bias.
        ties: of the first name of a tied tensor, its names in other modules.
        tensors: parameters and buffers by name. They are read here, and never off modules that another thread may run on.

    """

    folds: frozenset[str]
    ties: Mapping[str, tuple[str, ...]]
    tensors: dict[str, Tensor]


def anatomy_of(net: nn.Module, probe: Probe, types: tuple[type, ...] = NORMS) -> Anatomy:
    """The anatomy of a network, read again whenever its tensors are exchanged (`Skeleton.apply`).

    Args:
        net: the network.
        probe: of it.
        types: of the modules that taps fold into.

    """
    return Anatomy(foldable(net, probe, types), ties_of(net), tensors_of(net))


def ties_of(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """Of the first name of every tied tensor, the names that it has in other modules.

    A module that stands in two places is one module, and its second name is none of another place.
    """
    places: dict[int, dict[tuple[int, str], str]] = {}
    for prefix, module in net.named_modules():
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                places.setdefault(id(tensor), {})[id(module), leaf] = f"{prefix}.{leaf}".lstrip(".")
    named = (tuple(names.values()) for names in places.values())
    return {names[0]: names[1:] for names in named if len(names) > 1}


def put(net: nn.Module, edits: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
    """One forward with ``edits``, whose taps are folded already, in the place of the target's tensors.

    Args:
        net: the skeleton's network.
        edits: tensors by name, as `fold` returned them: a tied tensor under each of its names.
        inputs: what the network takes.

    """
    # Looking for ties costs functional_call a walk over all tensors, each time.
    return functional_call(net, dict(edits), inputs, tie_weights=False)


def put_for_good(net: nn.Module, edits: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
    """`put` on a copy that is made for this call: the edits stay in their place, for a backward that calls modules again.

    Args:
        net: the copy.
        edits: tensors by name, as `fold` returned them.
        inputs: what the network takes.

    """
    for name, value in edits.items():
        prefix, _, leaf = name.rpartition(".")
        module = net.get_submodule(prefix)
        held = module._parameters if leaf in module._parameters else module._buffers
        held[leaf] = value  # type: ignore[assignment]
    return net(*inputs)


def call_with(module: nn.Module, parameters: Mapping[str, Tensor], *inputs: Any, **options: Any) -> Any:
    """The output of any module with other parameters in the place of its own: a source at weights that were kept, a meta-learned net.

    Args:
        module: the module; its own tensors stay as they are.
        parameters: tensors by name, of the shapes of those that they stand for.
        inputs: positional arguments of its forward.
        options: keyword arguments of its forward.

    """
    return functional_call(module, dict(parameters), inputs, options)


def fold(net: nn.Module, edits: Mapping[str, Tensor], anatomy: Anatomy) -> Edits:
    """Move every one-row tap on a module that folds into its weight and bias, which is exact, and write ties under all names.

    ``g * (w n + b) + c = (g w) n + (g b + c)`` for a norm, a linear layer or a convolution; ``M (W x + b) = (M W) x + M b`` for the
    last two alone, whose weight is a matrix. A row per sample stays a tap, and
    inside a transformation of `torch.func` so does a tap of a norm whose kernel is wrong at second order.

    Args:
        net: the network that the edits are of; its own weight and bias are read where no edit replaces them.
        edits: tensors by name; not changed.
        anatomy: of the network.

    """
    folded, transformed = dict(edits), _transformed()
    for name in edits.keys() & anatomy.ties.keys():
        for other in anatomy.ties[name]:
            folded.setdefault(other, edits[name])
    for prefix in dict.fromkeys(n.rpartition(".")[0] for n in edits if n.endswith(OUTPUT_TAP)):
        gain, shift, mix = (folded.get(f"{prefix}.{slot}") for slot in OUTPUT_TAP)
        if prefix not in anatomy.folds or any(t is not None and t.ndim > 1 for t in (gain, shift)):
            continue
        module, weight = net.get_submodule(prefix), anatomy.tensors.get(f"{prefix}.weight")
        if weight is not None and any(t is not None and t.dtype != weight.dtype for t in (gain, shift, mix)):
            continue  # numbers of a higher precision than the layer's stay what they are, in the tap
        if transformed and isinstance(module, FIRST_ORDER):
            continue
        if mix is not None and (mix.ndim > 2 or not isinstance(module, LINEAR)):
            continue
        for slot in OUTPUT_TAP:
            folded.pop(f"{prefix}.{slot}", None)
        if mix is not None:
            folded |= _mixed_in(ChainMap(folded, anatomy.tensors), prefix, mix)
        folded |= _absorbed(ChainMap(folded, anatomy.tensors), prefix, gain, shift)
    return folded


def _transformed() -> bool:
    """Inside a transformation of `torch.func` (but not of `torch.compile`, where second order is refused)."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def foldable(net: nn.Module, probe: Probe, types: tuple[type, ...]) -> frozenset[str]:
    """Names of the modules of ``types`` behind which a tap equals a change of their own weight and bias.

    Left out: modules with hooks of their own, tied to another, of a subclass that may do more, whose weight is computed
    (parametrized), or whose weight or bias is read beside their own calls.

    Args:
        net: the network.
        probe: of it.
        types: of the modules.

    """
    owners: dict[int, set[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), set()).add(name)
    shared = {name.rpartition(".")[0] for names in owners.values() if len(names) > 1 for name in names}
    modules: list[tuple[str, nn.Module]] = list(net.named_modules())
    return frozenset(
        n for n, m in modules if n not in shared and isinstance(m, types) and _folds(m) and reads_its_own(m, n, probe)
    )


def reads_its_own(module: nn.Module, name: str, probe: Probe) -> bool:
    """Whether each parameter of a module is read in its calls alone, once in each.

    Args:
        module: of the network.
        name: of the module.
        probe: of the network.

    """
    calls = len(probe.calls.get(name, ()))
    leaves = [leaf for leaf, p in module.named_parameters(recurse=False)]
    return all(probe.reads.get(f"{name}.{leaf}".lstrip("."), 0) == calls for leaf in leaves)


def _folds(module: nn.Module) -> bool:
    own = type(module).__module__.startswith("torch.nn.modules.") and "weight" in module._parameters
    unhooked = len(module._forward_hooks) <= hasattr(module, GAIN) and "forward" not in module.__dict__
    unhooked = unhooked and not torch.nn.modules.module._global_forward_hooks and not module._backward_hooks
    unhooked = unhooked and all(_is_own_axis(module, hook) for hook in module._forward_hooks.values())
    flat = not isinstance(module, nn.LayerNorm) or len(module.normalized_shape) == 1
    return own and unhooked and flat and not isinstance(module, _ConvTransposeNd)


def own_axes(module: nn.Module) -> tuple[int, ...]:
    """The axis of an output along which a norm's or a layer's own weight and bias lie: of a batch, and of a single sample."""
    if not isinstance(module, (_NormBase, nn.GroupNorm, _ConvNd)):
        return (-1,)
    n = spatial(module)
    return (1,) if n is None else (1, -n - 1)


def _is_own_axis(module: nn.Module, hook: Any) -> bool:
    # The hook of a tap says which axis it modulates; another than the layer's own is no change of its weight.
    own = own_axes(module)
    return getattr(hook, "keywords", {}).get("channel", own[0]) in own


def _mixed_in(now: Mapping[str, Tensor], prefix: str, mix: Tensor) -> Edits:
    weight, bias = now[f"{prefix}.weight"], now.get(f"{prefix}.bias")
    absorbed = {f"{prefix}.weight": (mix @ weight.flatten(1)).reshape(weight.shape)}
    return absorbed if bias is None else absorbed | {f"{prefix}.bias": mix @ bias}


def _absorbed(now: Mapping[str, Tensor], prefix: str, gain: Tensor | None, shift: Tensor | None) -> Edits:
    weight, bias = now.get(f"{prefix}.weight"), now.get(f"{prefix}.bias")
    absorbed: Edits = {}
    if gain is not None:
        if weight is None:
            absorbed[f"{prefix}.weight"] = gain
        else:
            absorbed[f"{prefix}.weight"] = gain.reshape(-1, *[1] * (weight.ndim - 1)) * weight
        if bias is not None:
            bias = gain * bias
            absorbed[f"{prefix}.bias"] = bias
    if shift is not None:
        absorbed[f"{prefix}.bias"] = shift if bias is None else bias + shift
    if weight is None and gain is None:
        # A norm's kernel takes weight and bias together or not at all.
        absorbed[f"{prefix}.weight"] = torch.ones_like(absorbed[f"{prefix}.bias"])
    return absorbed


def check(net: nn.Module, edits: Mapping[str, Tensor], channels: Mapping[str, int], resized: Sequence[str]) -> None:
    """Refuse names and shapes that `functional_call` would take without a word.

    Args:
        net: the skeleton's network.
        edits: what a modulator writes; tensors on the device "meta" will do.
        channels: of every tapped module by name, its channels.
        resized: names of tensors whose shape may change (a `Head` of another width).

    """
    known = dict(net.named_parameters(remove_duplicate=False)) | dict(net.named_buffers(remove_duplicate=False))
    for name, value in edits.items():
        prefix, _, leaf = name.rpartition(".")
        if leaf in OUTPUT_TAP:
            wanted: tuple[int, ...] = (channels[prefix],) * (2 if leaf == MIX else 1)
        elif name in known:
            wanted = tuple(known[name].shape)
        else:
            raise RefusedError(f"an edit must name a tensor of the target; got {name!r}; see target.weights('*')")
        if tuple(value.shape) != wanted and name not in resized:
            raise RefusedError(f"an edit must keep its tensor's shape; {name!r} is {wanted}, got {tuple(value.shape)}")
