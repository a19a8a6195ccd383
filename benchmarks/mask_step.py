"""A training step through masks against a dense step, and exact top-k selection against sorting.

784-1024-1024-500 without biases, batch 128, float32, one thread; a step is forward, backward and RMSprop(1e-4).
"""

from collections.abc import Callable
from itertools import cycle, pairwise

import torch
from torch import Tensor, nn

from benchmarks.machine import conditions, copy_seconds_per_byte
from benchmarks.timing import Bar, Report, Samples, interleave
from neuromod import Bernoulli, Kind, Modulated, Modulator, Table, Target, Threshold, TopK
from neuromod.seeds import generator

SIZES = (784, 1024, 1024, 500)
BATCH = 128
SCORES = 2_400_000

Batches = list[tuple[Tensor, Tensor]]


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    turns = 15 if quick else 45
    fixed = conditions()
    steps, floor = _steps(turns)
    bars = (*steps, *_compiled(turns), *_selection(turns // 3))
    return Report("mask_step", bars, fixed | {"floor of a masked step / dense": floor})


def _steps(turns: int) -> tuple[list[Bar], str]:
    kinds = {"threshold": Threshold(), "top-k": TopK(0.5), "Bernoulli": Bernoulli()}
    contenders = {name: step(masked(kind)) for name, kind in kinds.items()} | {"dense": step(network())}
    samples = interleave(contenders, turns=turns, warm_up=5)
    bars = [
        samples.bar("step: threshold / dense", "threshold", "dense", 1.2),
        samples.bar("step: top-k / dense", "top-k", "dense", 1.5),
        samples.bar("step: Bernoulli / dense", "Bernoulli", "dense"),
    ]
    return bars, _floor(samples)


def _floor(samples: Samples) -> str:
    """The ratio that is left if a mask costs two reads and a write of all weights forward and again backward."""
    moved = 6 * sum(p.numel() * p.element_size() for p in network().parameters())
    ratio = 1 + moved * copy_seconds_per_byte() / samples.median("dense")
    return f"{ratio:.3f} ({moved:,} bytes at the speed of a copy)"


def _compiled(turns: int) -> list[Bar]:
    model = masked(Threshold())
    model.compile(fullgraph=True)
    dense: nn.Module = torch.compile(network())  # type: ignore[assignment]
    samples = interleave({"threshold": step(model), "dense": step(dense)}, turns=turns, warm_up=5)
    return [samples.bar("compiled step: threshold / dense", "threshold", "dense", 1.15)]


def _selection(turns: int) -> list[Bar]:
    scores = torch.randn(SCORES, generator=generator(0, "scores")).abs()
    k = SCORES // 2

    def by_sort() -> Tensor:
        mask = torch.zeros_like(scores)
        mask[scores.sort().indices[-k:]] = 1
        return mask

    contenders: dict[str, Callable[[], Tensor]] = {
        "largest": lambda: torch.ops.neuromod.largest(scores, k),
        "sort": by_sort,
        "kthvalue": lambda: (scores >= scores.kthvalue(SCORES - k + 1).values).to(scores.dtype),
    }
    samples = interleave(contenders, turns=turns)
    return [
        samples.bar("top-k mask: sort / ours", "sort", "largest", 20, ">="),
        samples.bar("top-k mask: kthvalue / ours", "kthvalue", "largest", 5, ">="),
    ]


def network() -> nn.Sequential:
    """The same network every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(SIZES)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def masked(kind: Kind) -> Modulated:
    """The network, frozen, with one task of masks on all weights."""
    target = Target(network(), torch.zeros(2, SIZES[0]))
    return Modulated(target, Modulator(kind, Table(1), target.weights("*"), seed=1))


def step(model: nn.Module) -> Callable[[], None]:
    """One training step a call, over a few batches in turn."""
    optimiser = torch.optim.RMSprop(model.parameters(), lr=1e-4)
    given = {"task": 0} if isinstance(model, Modulated) else {}
    endless = cycle(batches())

    def once() -> None:
        x, y = next(endless)
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x, **given), y).backward()
        optimiser.step()

    return once


def batches(count: int = 8) -> Batches:
    """Random batches."""
    rng = generator(0, "batches")
    return [
        (torch.randn(BATCH, SIZES[0], generator=rng), torch.randint(0, SIZES[-1], (BATCH,), generator=rng))
        for _ in range(count)
    ]
