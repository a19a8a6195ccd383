"""Small smooth networks in float64, and their tensors as the slow reference takes them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuromod.meta import InstanceNorm

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(net: nn.Module, scale: float = 0.5) -> nn.Module:
    with torch.no_grad():
        for seed, parameter in enumerate(net.double().parameters()):
            parameter.copy_(scale * draw(*parameter.shape, seed=seed + 100))
    return net


def mlp() -> nn.Module:
    return filled(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))


def conv() -> nn.Module:
    """Convolutions with norms of each sample; images (B, 1, 6, 6) to 4 classes."""
    return filled(
        nn.Sequential(
            *(nn.Conv2d(1, 3, 3), InstanceNorm(3), nn.Softplus()),
            *(nn.Conv2d(3, 4, 3), InstanceNorm(4), nn.Softplus()),
            *(nn.Flatten(), nn.Linear(16, 4)),
        )
    )


def forward_of(net: nn.Module) -> Forward:
    return lambda tensors, x: functional_call(net, dict(tensors), (x,))


def tensors_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def same(found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor], rtol: float = 1e-9) -> None:
    """Equal to `rtol` of the largest entry of each tensor; no gradient is a gradient of zeros."""
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        got = found[name]
        got = torch.zeros_like(wanted) if got is None else got
        scale = max(float(wanted.abs().max()), 1e-4)
        assert float((got - wanted).abs().max()) <= rtol * scale, name


def gradients(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in net.named_parameters()}
