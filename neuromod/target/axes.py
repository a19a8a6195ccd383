"""Which axis of an output is what, and which module stands beside another: read off types and the probe, never guessed."""

from collections import Counter
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from neuromod.arguments import count, one_of
from neuromod.errors import RefusedError
from neuromod.target.probe import Probe

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLS = (_MaxPoolNd, _AvgPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd)
CHANNEL_FIRST = (_ConvNd, _NormBase, nn.GroupNorm, *POOLS, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Upsample)
CHANNEL_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding)
PLACEMENTS = ("before", "after", "activation")
ACTIVATIONS = nn.ReLU.__module__


def channel_axis(net: nn.Module, probe: Probe, name: str, channel: int | None) -> int:
    """The channel axis of an output: 1 behind convolutions and their norms, -1 behind linear layers and theirs.

    Of a module whose type does not say it, an activation or a container, the layers beside it do: those whose output it reads, and
    those that read its own. Refused: where none of them says it, two say different axes, or it is the batch axis.

    Args:
        net: the pristine network.
        probe: of that network.
        name: of the module that puts the output out.
        channel: the axis that the user named, which is taken as it is; None where it shall be found.

    """
    call = probe.calls[name][0]
    if channel is not None:
        count(channel, "channel=", least=-len(call.shape), most=len(call.shape) - 1)
    axis = _found(net, probe, name) if channel is None else channel
    if call.batch is not None and axis % len(call.shape) == call.batch:
        raise RefusedError(
            f"channels have an axis of their own; axis {axis} of {name!r} (output {call.shape}) holds the samples; pass "
            "outputs(..., channel=another)"
        )
    return axis


def _found(net: nn.Module, probe: Probe, name: str) -> int:
    module, shape = net.get_submodule(name), probe.calls[name][0].shape
    own = _by_type(module, shape)
    feeding, reading = ({own}, set()) if own is not None else _beside(net, probe, name)
    found = feeding | reading
    if len(shape) == 2:
        # Axis 1 and axis -1 are one here; which it is matters where a call has more axes, and whoever feeds the module knows.
        return (feeding if len(feeding) == 1 else found if len(found) == 1 else {-1}).pop()
    if len(found) == 1:
        return found.pop()
    said = f"the layers beside it say {sorted(found)}" if found else "nor from the layers beside it"
    raise RefusedError(
        f"the channel axis of {name!r} ({type(module).__name__}, output {shape}) is not known from its type, {said}; pass "
        "outputs(..., channel=axis)"
    )


def _by_type(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    """The channel axis that the type of a module says."""
    ndim = len(shape)
    if isinstance(module, CHANNEL_FIRST):
        n = spatial(module)
        return -n - 1 if n is not None and ndim == n + 1 else 1
    if isinstance(module, nn.LayerNorm | nn.RMSNorm) and not type(module).__module__.startswith("torch.nn."):
        size = module.normalized_shape[-1]
        fits = [axis for axis in {1, ndim - 1} if shape[axis] == size]
        return None if len(fits) != 1 else 1 if fits[0] == 1 and ndim > 2 else -1
    if isinstance(module, CHANNEL_LAST):
        return -1
    return None


def spatial(module: nn.Module) -> int | None:
    """Axes behind the channels of a module that also takes single samples, (C, *spatial); None of one that takes batches alone."""
    if not isinstance(module, CHANNEL_FIRST) or isinstance(module, _BatchNorm):
        return None
    ends = [cls.__name__[-2:] for cls in type(module).__mro__ if cls.__module__.startswith("torch.nn.")]
    return next((int(end[0]) for end in ends if end in ("1d", "2d", "3d")), None)


def _beside(net: nn.Module, probe: Probe, name: str) -> tuple[set[int], set[int]]:
    """The channel axes that layers say which feed a module and which read it, seen through modules that keep the shape."""
    shape = probe.calls[name][0].shape
    if name in probe.same:
        return _seen(net, probe, probe.same[name], shape), set()
    feeding = [_seen(net, probe, a, shape) for a, b in probe.flow if b == name]
    reading = [_of_reader(net, b, shape) for a, b in probe.flow if a == name]
    return set().union(*feeding), set().union(*reading)


def _seen(net: nn.Module, probe: Probe, name: str, shape: tuple[int, ...]) -> set[int]:
    """The axis that a module, or the nearest in front of it whose type says one, gives to an output of this shape."""
    for _ in range(len(probe.calls)):
        if probe.calls[name][0].shape != shape:
            return set()
        own = _by_type(net.get_submodule(name), shape)
        if own is not None:
            return {own}
        feeding = [a for a, b in probe.flow if b == name]
        if len(feeding) != 1:
            return set()
        name = feeding[0]
    return set()


def _of_reader(net: nn.Module, name: str, shape: tuple[int, ...]) -> set[int]:
    """The axis of the channels that a layer reads, where that says it."""
    module = net.get_submodule(name)
    own = _by_type(module, shape) if isinstance(module, (*CHANNEL_FIRST, *CHANNEL_LAST)) else None
    return set() if own is None else {own}


def batch_axis(net: nn.Module, probe: Probe, name: str) -> int | None:
    """The batch axis in front of and behind a layer that is linear in its weight; None where that is not sure.

    Not sure: other types, groups, hooks, tensors that are tied or read outside the layer's own calls, keyword calls.

    Args:
        net: the pristine network.
        probe: of that network.
        name: of the layer.

    """
    module, calls = net.get_submodule(name), probe.calls.get(name, ())
    hooked = (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or "forward" in module.__dict__
    )
    if not name or type(module) not in LAYERS or hooked or name in probe.odd:
        return None
    if isinstance(module, _ConvNd) and (module.groups > 1 or len(calls[0].shape) != module.weight.ndim):
        return None
    own = [f"{name}.{leaf}" for leaf, p in module.named_parameters(recurse=False)]
    tied = Counter(id(p) for _, p in net.named_parameters(remove_duplicate=False))
    if any(tied[id(net.get_parameter(n))] > 1 or probe.reads.get(n) != len(calls) for n in own):
        return None
    axes = {call.batch for call in calls}
    return axes.pop() if len(axes) == 1 else None


def neighbour(net: nn.Module, probe: Probe, norm: str, placement: str) -> str:
    """The name of the module that feeds a norm (``"before"``) or of the activation that reads it (``"activation"``).

    Refused: a norm that has no such neighbour or several.

    Args:
        net: the pristine network.
        probe: of that network.
        norm: name of the norm.
        placement: one of `PLACEMENTS`.

    """
    if placement == "before":
        found = [a for a, b in probe.flow if b == norm]
    else:
        readers = [b for a, b in probe.flow if a == norm]
        found = [n for n in readers if type(net.get_submodule(n)).__module__ == ACTIVATIONS]
    if len(found) > 1:
        raise RefusedError(
            f"placement={placement!r} needs one module beside each norm; {norm!r} has {', '.join(found)}; choose with "
            "outputs(...)"
        )
    if not found:
        missing = "module puts out what it reads" if placement == "before" else "activation module reads it"
        raise RefusedError(
            f"placement={placement!r} needs a module beside each norm; of {norm!r} no {missing}; exclude it, or choose "
            "with outputs(...)"
        )
    return found[0]


def acting(net: nn.Module, probe: Probe, names: Sequence[str], what: str, unused: str) -> list[str]:
    """The names of tensors or modules that act on the output and that a gradient reaches; others are refused, or left out.

    Args:
        net: the pristine network.
        probe: of that network.
        names: of the candidates.
        what: they are: "weight", "output" or "norm".
        unused: "refuse" or "skip" those that do not act; all of them are refused in any case.

    """
    one_of(unused, "unused", ("refuse", "skip"))
    used = probe.used if what == "weight" else probe.calls
    idle = [n for n in names if n not in used]
    cut = [n for n in names if n not in idle and probe.reached is not None and n not in probe.reached]
    left = [n for n in names if n not in idle and n not in cut]
    if (idle or cut) and (unused == "refuse" or not left):
        wrong = idle or cut
        shown = ", ".join(map(repr, wrong[:6])) + (f" and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        reason = "is not" if idle else "receives no gradient (no_grad, detach, .data, or a result that is kept)"
        raise RefusedError(
            f"a site must be used by the forward, and learn; {what} {shown} {reason}; exclude it, or pass unused='skip'"
            + _of_attention(net, wrong[0])
        )
    return left


def _of_attention(net: nn.Module, name: str) -> str:
    parent = net.get_submodule(name.rpartition(".")[0]) if name.endswith("out_proj") else None
    if isinstance(parent, nn.MultiheadAttention):
        return f" (attention does not call its out_proj: choose weights('{name}.weight'))"
    return ""
