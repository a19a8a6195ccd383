"""A training step under a rule against the textbook's masked step, and what a sealed task of new wires costs.

784-1024-1024-500 without biases, batch 128, float32, SGD with momentum, one thread; a tenth of the weights are wires.
"""

from collections.abc import Callable
from itertools import cycle

import torch
from torch import Tensor, nn

from benchmarks.machine import conditions
from benchmarks.mask_step import SIZES, batches, network
from benchmarks.timing import Bar, Report, interleave
from neuromod import Generated, Modulated, Modulator, Table, Target, Wires
from neuromod.rewiring import Rewiring, rule_of
from neuromod.seeds import generator

DENSITY, FEW = 0.1, 0.01
FOREVER = 10**9


class Masked(nn.Module):
    """The textbook: every layer multiplies its weight by a mask of 0 and 1 before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        rng = generator(0, "masks")
        for layer in self.layers():
            layer.register_buffer("mask", (torch.rand(layer.weight.shape, generator=rng) < DENSITY).float())

    def layers(self) -> list[nn.Linear]:
        """Its linear layers."""
        return [module for module in self.net if isinstance(module, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        for module in self.net:
            x = _masked(module, x) if isinstance(module, nn.Linear) else module(x)
        return x


def _masked(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight * layer.get_buffer("mask"))


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    turns, fixed = (15 if quick else 45), conditions()
    contenders = {"masked": masked_step(), "dense": dense_step()}
    contenders |= {"rigl": rule_step(every=FOREVER), "update": rule_step(every=1), "dnw": rule_step("dnw")}
    samples = interleave(contenders, turns=turns, warm_up=3)
    bars = (
        samples.bar("step: RigL between updates / masked", "rigl", "masked", 1.15),
        samples.bar("step: RigL's update / masked", "update", "masked", 3),
        samples.bar("step: DNW / masked", "dnw", "masked"),
        samples.bar("step: masked / dense", "masked", "dense"),
        *sealed(),
    )
    return Report("rewiring", bars, fixed)


def sealed() -> tuple[Bar, Bar]:
    """Bytes of a sealed task of 1 % wires over those of index and value, and over those of a mask."""
    target = Target(network(), torch.zeros(2, SIZES[0]))
    model = Modulated(target, Modulator(Wires(FEW), Table(1), target.weights("*"), seed=1))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=generator(0, "wires"))
    model.seal(0)
    found, places = model.bytes_per_task(0), sum(p.numel() for p in network().parameters())
    wires = sum(round(FEW * p.numel()) for p in network().parameters())
    return (
        Bar(f"bytes of {wires:,} sealed wires ({found:,}) / index and value", found / (8 * wires), 1.0),
        Bar(f"the same bytes / a bit per weight ({-(-places // 8):,})", found / -(-places // 8)),
    )


def rule_step(name: str = "rigl", **options: int) -> Callable[[], None]:
    """One training step a call of a copy of the weights under a rule."""
    target = Target(network(), torch.zeros(2, SIZES[0]))
    model = Modulated(target, Modulator(Generated(), Table(None), target.weights("*"), identity=True))
    # Its first update, at step 0, falls into the warm-up.
    wiring = Rewiring(model, "generated", rule_of(name, **options), steps=FOREVER, density=DENSITY, scope="uniform")
    return _step(model, wiring.step)


def masked_step() -> Callable[[], None]:
    """One training step a call of the textbook."""
    return _step(Masked(), lambda optimizer: optimizer.step())


def dense_step() -> Callable[[], None]:
    """One training step a call of all weights."""
    return _step(network(), lambda optimizer: optimizer.step())


def _step(model: nn.Module, take: Callable[[torch.optim.Optimizer], object]) -> Callable[[], None]:
    optimizer, endless = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), cycle(batches())

    def once() -> None:
        x, y = next(endless)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        take(optimizer)

    return once
