"""Which axis of an output is what, and which module stands beside another: read off types and the probe, never guessed."""

from collections import Counter

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from neuromod.errors import RefusedError, nearest
from neuromod.target.probe import Call, Probe

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHANNEL_FIRST = (_ConvNd, _NormBase, nn.GroupNorm)
CHANNEL_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding)
PLACEMENTS = ("before", "after", "activation")
ACTIVATIONS = nn.ReLU.__module__


def channel_axis(name: str, module: nn.Module, call: Call, channel: int | None) -> int:
    """The channel axis of an output: 1 for convolutions and their norms, -1 for linear layers and theirs.

    Refused: a module whose type does not say it (an activation of three axes, a layer of the user's own).

    Args:
        name: of the module, for the refusal.
        module: what puts the output out.
        call: one call of it, with the output's shape.
        channel: the axis that the user named, which is taken as it is; None where the type shall say it.

    """
    if channel is not None:
        return channel
    ndim = len(call.shape)
    if type(module).__module__.startswith("torch.nn."):
        if isinstance(module, CHANNEL_FIRST) or (ndim >= 4 and not isinstance(module, CHANNEL_LAST)):
            return 1
        if isinstance(module, CHANNEL_LAST) or ndim == 2:
            return -1
    elif isinstance(module, _ConvNd | _NormBase | nn.GroupNorm):
        return 1
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        size = module.normalized_shape[-1]
        fits = [axis for axis in {1, ndim - 1} if call.shape[axis] == size]
        if len(fits) == 1:
            return 1 if fits[0] == 1 and ndim > 2 else -1
    elif ndim == 2 or isinstance(module, nn.Linear | nn.RNNBase | nn.Embedding):
        return -1
    raise RefusedError(
        f"the channel axis of {name!r} ({type(module).__name__}, output {call.shape}) is not known from its type; "
        "pass outputs(..., channel=axis)"
    )


def batch_axis(net: nn.Module, probe: Probe, name: str) -> int | None:
    """The batch axis in front of and behind a layer that is linear in its weight; None where that is not sure.

    Not sure: other types, groups, hooks, tensors that are tied or read outside the layer's own calls, keyword calls.

    Args:
        net: the pristine network.
        probe: of that network.
        name: of the layer.

    """
    module, calls = net.get_submodule(name), probe.calls.get(name, ())
    hooked = module._forward_hooks or module._forward_pre_hooks
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

    Refused: another placement, and a norm that has no such neighbour or several.

    Args:
        net: the pristine network.
        probe: of that network.
        norm: name of the norm.
        placement: one of `PLACEMENTS`.

    """
    if placement not in PLACEMENTS:
        raise RefusedError(
            f"placement must be one of {PLACEMENTS}; got {placement!r}; try {nearest(str(placement), PLACEMENTS, 1)}"
        )
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
