"""A small network whose copy is rewired, and one step of its training."""

import torch
from torch import nn

from neuromod import Generated, Kind, Modulated, Modulator, Table, Target
from neuromod.rewiring import Rewiring, Rule
from neuromod.seeds import generator


def network(seed: int = 0) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5)).double()
    rng = generator("rewired", seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=rng, dtype=torch.float64) / 3)
    return net


def model_of(kind: Kind | None = None, *, tasks: int | None = None, net: nn.Module | None = None) -> Modulated:
    kind = Generated() if kind is None else kind
    target = Target(network() if net is None else net, torch.ones(3, 8, dtype=torch.float64))
    sites = target.weights("*")
    return Modulated(target, Modulator(kind, Table(tasks), sites, identity=isinstance(kind, Generated)))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = generator("batch", step)
    return torch.randn(16, 8, generator=rng, dtype=torch.float64), torch.randint(5, (16,), generator=rng)


def loss_of(model: nn.Module, step: int, **call: object) -> torch.Tensor:
    x, y = batch(step)
    return nn.functional.cross_entropy(model(x, **call), y)


def wiring_of(rule: Rule, *, steps: int = 40, density: float = 0.3, **options: object) -> tuple[Modulated, Rewiring]:
    model = model_of()
    return model, Rewiring(model, "generated", rule, steps=steps, density=density, **options)  # type: ignore[arg-type]


def train(model: Modulated, wiring: Rewiring, optimizer: torch.optim.Optimizer, steps: range, **call: object) -> None:
    for step in steps:
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, step, **call).backward()
        wiring.step(optimizer)
