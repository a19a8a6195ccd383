"""The same in a few lines each, slowly: what the fast code is held to."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def brute_force(target: float, candidates: Tensor) -> float:
    """The smallest distance of any of all ``2^n`` sums from a number."""
    best = abs(target)
    for subset in range(2 ** len(candidates)):
        chosen = [p for i, p in enumerate(candidates.tolist()) if subset >> i & 1]
        best = min(best, abs(sum(chosen) - target))
    return best


def forward(net: nn.Sequential, masks: dict[str, Tensor], x: Tensor) -> Tensor:
    """``(V * M) relu((U * M) x)``, block by block, with a ReLU between blocks."""
    for name, module in net.named_children():
        if isinstance(module, nn.Linear):
            x = x @ (module.weight.double() * masks[f"{name}.weight"]).T
            if module.bias is not None:
                x = x + module.bias.double() * masks[f"{name}.bias"]
        elif isinstance(module, nn.ReLU):
            x = x.clamp(min=0)
    return x


def furthest(weights: list[Tensor], found: list[Tensor], x: Tensor) -> float:
    """The largest error over points of networks of ReLU without biases."""
    y, z = x, x
    for i, (w, a) in enumerate(zip(weights, found, strict=True)):
        y, z = y @ w.T, z @ a.T
        if i < len(weights) - 1:
            y, z = y.clamp(min=0), z.clamp(min=0)
    return float((y - z).norm(dim=1).max())


def mlp(*widths: int, bias: bool = False, seed: int = 0, largest: float = 0.5) -> nn.Sequential:
    """A target whose weights are uniform up to ``largest``."""
    rng = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    for p in net.parameters():
        p.data = (torch.rand(p.shape, generator=rng) * 2 - 1) * largest
    return net
