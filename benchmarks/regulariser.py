"""A step of a hypernetwork whose output regulariser holds 5 or 100 old tasks; float32, one thread.

A chunked hypernetwork generates the weights of 784-100-100-10 (batch 128, Adam, one look-ahead); a step draws 5 old tasks.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.machine import conditions
from benchmarks.timing import Bar, Report, interleave
from neuromod import Generated, Hypernet, Modulated, Modulator, OutputRegulariser, Target
from neuromod.seeds import generator

BATCH, INPUTS, CLASSES = 128, 784, 10
OLD, SAMPLE = (5, 100), 5

Run = Callable[[], object]


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    fixed = conditions()
    return Report("regulariser", tuple(_steps(21 if quick else 63)), fixed)


def _steps(turns: int) -> list[Bar]:
    x = torch.randn(BATCH, INPUTS, generator=generator(0, "inputs"))
    y = torch.randint(0, CLASSES, (BATCH,), generator=generator(0, "labels"))
    bars = []
    for name, stored in {"stored": True, "recomputed": False}.items():
        contenders = {f"{old} old": _held(old, x, y, stored=stored) for old in OLD} | {"none": _held(0, x, y)}
        samples = interleave(contenders, turns=turns)
        few, many = (f"{old} old" for old in OLD)
        bars.append(samples.bar(f"step with 100 old tasks / 5, rows {name}", many, few, 1.2))
        bars.append(samples.bar(f"step with 100 old tasks / none, rows {name}", many, "none"))
    return bars


def _held(old: int, x: Tensor, y: Tensor, *, stored: bool = True) -> Run:
    """A step on a new task beside ``old`` ones, of which each step draws as many as the smaller contender has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    target = Target(net, x[:2])
    source = Hypernet("task", tasks=old + 1, hidden=[100, 75, 50], embedding=64, chunk=2000, chunk_code=12)
    model = Modulated(target, Modulator(Generated(), source, target.weights("*"), seed=1))
    regulariser = OutputRegulariser(model, beta=0.05, sample=SAMPLE, stored=stored, seed=0)
    for task in range(old):
        regulariser.hold(task)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def once() -> None:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x, task=old), y).backward()
        regulariser.backward(optimiser)
        optimiser.step()

    return once
