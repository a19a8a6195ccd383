"""Cells of the contract: every modulator config on every small network, in float64, with four tasks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from neuromod import Modulated, RefusedError, Target, random_delta
from neuromod.seeds import derive, generator
from tasks.continual.learners.modulated import modulated
from tasks.networks import Lstm, ResNet, conv, mlp

ROOT = Path(__file__).parents[2]
CONFIGS = {
    p.stem: OmegaConf.to_container(OmegaConf.load(p)) for p in sorted((ROOT / "configs/modulator").glob("*.yaml"))
}
TASKS, SIZE, OUTPUTS = 4, 16, 5
EVEN, UNEVEN = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4, [0] * 13 + [1, 2, 3]

# The sequences are as long as the batch: a network that is time-first inside must not mistake one for the other.
SHAPES = {"mlp": (12,), "conv": (2, 8, 8), "lstm": (SIZE, 3), "resnet": (3, 8, 8)}
NETWORKS = {
    "mlp": lambda shape: mlp(shape, OUTPUTS, (10, 8), norm="layer", bias=True),
    "conv": lambda shape: conv(shape, OUTPUTS, (4, 6)),
    "lstm": lambda shape: Lstm(shape, OUTPUTS, 6),
    "resnet": lambda shape: ResNet(shape, OUTPUTS, depth=8, width=4),
}


@dataclass(frozen=True)
class Cell:
    """One modulator config on one network."""

    config: dict[str, Any]
    net: nn.Module
    x: Tensor
    condition: Tensor

    @property
    def measured(self) -> bool:
        """Whether the norms use the statistics of each task."""
        return "Statistics" in str(self.config)

    def target(self) -> Target:
        return Target(self.net, self.x, norm="batch" if self.measured else "frozen")

    def model(self, *, identity: bool | None = None, moved: bool = True, target: Target | None = None) -> Modulated:
        """A fresh model; ``moved`` shifts its parameters away from their start, so that every part has an effect."""
        config = {
            name: part if identity is None else {**part, "identity": identity} for name, part in self.config.items()
        }
        model = modulated(target or self.target(), config, tasks=TASKS, seed=7)
        rng = generator(0, "moved")
        # Hard gates start well open: a small move would leave them all so.
        least = 1.0 if "hard" in str(self.config) else 0.1
        with torch.no_grad():
            for parameter in model.parameters() if moved else ():
                drawn = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
                spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
                parameter += (drawn * max(spread, least)).to(parameter)
        return model

    def call(self, model: Modulated, ids: list[int] | int | Tensor, rows: slice | list[int] = slice(None)) -> Tensor:
        """The output on some samples, each with its task and its condition."""
        reads = model.reads
        stochastic = any(m.noisy for m in model.modulators.values())
        return model(
            self.x[rows],
            **({"task": ids} if "task" in reads else {}),
            **({"condition": self.condition[rows]} if "condition" in reads else {}),
            **({"draw": 3} if stochastic and model.training else {}),
        )

    def astype(self, dtype: torch.dtype) -> "Cell":
        condition = self.condition.to(dtype) if self.condition.is_floating_point() else self.condition
        return replace(self, net=self.net.to(dtype), x=self.x.to(dtype), condition=condition)


def cell(config: dict[str, Any], network: str) -> Cell:
    """A cell with a random network whose norms have seen data."""
    torch_seed = derive(1, network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed)
        net = NETWORKS[network](SHAPES[network]).double()
        x = torch.randn(SIZE, *SHAPES[network], dtype=torch.float64)
        with torch.no_grad():
            for _ in range(3):
                net(torch.randn(SIZE, *SHAPES[network], dtype=torch.float64) * 2 + 0.5)
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.uniform_(-0.5, 0.5)
        if "Switch" in str(config):
            net = random_delta(net, seed=3)
        labelled = any("labels" in part["source"] for part in config.values())
        condition = torch.randint(TASKS, (SIZE,)) if labelled else torch.randn(SIZE, 4, dtype=torch.float64)
        return Cell(config, net.eval(), x, condition)


def fits(config: dict[str, Any], network: str) -> bool:
    """Whether the network has the sites that the config asks for (an MLP has no BatchNorm)."""
    try:
        cell(config, network).model()
    except RefusedError as error:
        if "the network has none" in str(error):
            return False
        raise
    return True


PAIRS = [(c, n) for c in CONFIGS for n in NETWORKS if fits(CONFIGS[c], n)]
