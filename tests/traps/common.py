"""Traps of wrapping a network from outside, each as the smallest network that falls into it: what their tests share."""

from typing import Any

import torch
from torch import Tensor, nn

from neuromod import (
    Bernoulli,
    Modulated,
    Modulator,
    Table,
    Target,
    Threshold,
)
from tasks.networks import mlp

IDS = [0, 1, 1, 2, 0, 2]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def filled(net: nn.Module) -> Any:
    """The network in float64, every parameter drawn, so that nothing is 0 or 1 by chance."""
    with torch.no_grad():
        for seed, parameter in enumerate(net.double().parameters()):
            parameter.copy_(0.5 * draw(*parameter.shape, seed=seed + 100))
    return net


def moved(model: Modulated) -> Modulated:
    """The model with its parameters away from their start."""
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter += 0.5 * draw(*parameter.shape, seed=seed + 500).to(parameter)
    return model


def close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    a, b = a.detach(), b.detach()
    assert a.shape == b.shape
    assert float(b.abs().max()) > 1e-3
    assert float((a - b).abs().max()) <= rtol * float(b.abs().max())


def mixed_equals_singles(model: Modulated, x: Tensor, axis: int = 0, out_axis: int = 0) -> None:
    """In outputs and gradients; and tasks differ."""
    weights = draw(*model(x, task=IDS).shape, seed=9)
    mixed = model(x, task=IDS)
    singles = torch.cat([model(x.narrow(axis, i, 1), task=t) for i, t in enumerate(IDS)], out_axis)
    close(mixed, singles)
    assert float((mixed - model(x, task=0)).detach().abs().max()) > 1e-3
    parameters = list(model.parameters())
    found = torch.autograd.grad((mixed * weights).sum(), parameters)
    expected = torch.autograd.grad((singles * weights).sum(), parameters)
    close(torch.cat([g.flatten() for g in found]), torch.cat([g.flatten() for g in expected]))


def masks(target: Target, seed: int, tasks: int = 1) -> Modulated:
    return Modulated(target, Modulator(Threshold(), Table(tasks), target.weights("*"), seed=seed))


def noisy() -> tuple[Modulated, Tensor]:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (8,), bias=True)), x)
    return Modulated(target, Modulator(Bernoulli(), Table(3), target.weights("*"), seed=0)), x
