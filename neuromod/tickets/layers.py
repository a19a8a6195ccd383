"""The layers of a target: the Linear and ReLU of a network, read into float64 and checked."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuromod.arguments import instance
from neuromod.errors import RefusedError


@dataclass(frozen=True)
class Layer:
    """A linear layer of a target: ``weight`` (out, in) and ``bias`` (out,), float64 on the CPU; no bias is None."""

    weight: Tensor
    bias: Tensor | None


def read_layers(net: nn.Module) -> tuple[Layer, ...]:
    """The layers of ``[Flatten,] Linear, ReLU, Linear, ..., Linear`` in an `nn.Sequential`, nested or not; others are refused."""
    modules = _leaves(instance(net, nn.Module, "net, the target of a ticket,"), "")
    if modules and type(modules[0][1]) is nn.Flatten:
        modules = modules[1:]
    for place, (name, module) in enumerate(modules):
        if type(module) is not (nn.ReLU if place % 2 else nn.Linear):
            raise _refusal(f"{type(module).__name__} at {name!r}")
    if len(modules) % 2 == 0:
        raise _refusal(f"{len(modules)} layers" if modules else "none")
    return tuple(_layer(name, module) for name, module in modules[::2] if isinstance(module, nn.Linear))


def refuse_unreachable(weight: Tensor, name: str, n: int, scale: float) -> None:
    """Refuse a target weight that n candidates don't reach: those of one sign add up to ``n * scale / 8`` on average.

    Args:
        weight: of one layer.
        name: of the layer, for the refusal.
        n: candidates of each weight.
        scale: of the candidates, ``U[-1, 1] * U[-scale, scale]``.

    """
    reach, largest = n * scale / 8, float(weight.abs().max()) if weight.numel() else 0.0
    if largest > reach:
        raise RefusedError(
            f"a target weight must lie within the reach of its candidates, n * scale / 8 = {reach:.4g}; {name} has {largest:.4g}; draw "
            f"a network with scale={math.ceil(16 * largest / n):d} or more, or divide the weights"
        )


def finite(tensor: Tensor, name: str) -> Tensor:
    """The tensor in float64 on the CPU; one that is not finite is refused under its name."""
    found = tensor.detach().cpu().double()
    if not bool(torch.isfinite(found).all()):
        bad = float(found[~torch.isfinite(found)][0])
        raise RefusedError(f"the weights of a target are finite; {name} has {bad}; train it without nan first")
    return found


def _leaves(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    if not isinstance(module, nn.Sequential):
        return [(name, module)]
    parts = [_leaves(child, f"{name}.{key}".lstrip(".")) for key, child in module.named_children()]
    return [leaf for part in parts for leaf in part]


def _layer(name: str, linear: nn.Linear) -> Layer:
    bias = None if linear.bias is None else finite(linear.bias, f"{name}.bias")
    return Layer(finite(linear.weight, f"{name}.weight"), bias)


def _refusal(what: str) -> RefusedError:
    return RefusedError(
        f"a ticket is found for Linear layers with a ReLU between each two; got {what}; pass nn.Sequential(Linear, ReLU, ..., Linear)"
    )
