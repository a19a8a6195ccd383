"""A batch that mixes tasks against the plain network, and the cost of one more task.

ResNet-18, random, 3x64x64, batch 16, evaluation without gradients, float32, one thread.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.machine import conditions, copy_seconds_per_byte
from benchmarks.timing import Bar, Report, Samples, interleave
from neuromod import Affine, Kind, Modulated, Modulator, Table, Target, Threshold, TopK
from neuromod.seeds import generator

GROUPS = {"4/4/4/4": (4, 4, 4, 4), "13/1/1/1": (13, 1, 1, 1)}
MIXED = [0, 1, 2, 3] * 4

Run = Callable[[], object]


@torch.no_grad()
def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    fixed = conditions()
    turns = 7 if quick else 21
    net = network()
    x = torch.randn(16, 3, 64, 64, generator=generator(0, "images"))
    masks, more = _masks(net, x, turns)
    return Report("mixed_batch", (*_film(net, x, 3 * turns), *masks, *_adding()), fixed | more)


def _film(net: nn.Module, x: Tensor, turns: int) -> list[Bar]:
    target = Target(net, x[:2])
    film = Modulated(target, Modulator(Affine(), Table(4), target.norms(), seed=1)).eval()
    contenders: dict[str, Run] = {
        "plain": lambda: net(x),
        "mixed": lambda: film(x, task=MIXED),
        "one": lambda: film(x, task=2),
    }
    samples = interleave(contenders, turns=turns)
    return [
        samples.bar("FiLM, 4 tasks in one batch / plain", "mixed", "plain", 1.15),
        samples.bar("FiLM, one task / plain", "one", "plain", 1.05),
    ]


def _masks(net: nn.Module, x: Tensor, turns: int) -> tuple[list[Bar], dict[str, str]]:
    sealed, cached = (masked(net, x, Threshold()) for _ in range(2))
    for model in (sealed, cached):
        for task in range(4):
            model.seal(task)
    live = {"live threshold": masked(net, x, Threshold()), "live top-k": masked(net, x, TopK(0.5))}
    held, first = _cache(cached, net, x)
    models = {"sealed": sealed, "cached": cached, **live}
    limits = {"sealed": 1.5, "cached": 1.1, "live threshold": 1.7, "live top-k": None}
    bars, floors = [], {}
    for name, sizes in GROUPS.items():
        samples = interleave(_contenders(net, models, x, sizes), turns=turns)
        bars += [samples.bar(f"masks {name}, {m} / sub-batches", m, "plain", limit) for m, limit in limits.items()]
        floors[f"floor of masks not cached, {name}"] = _floor(net, samples)
    return [*bars, first], {"cache of 4 tasks": f"{held:,} bytes", **floors}


def _contenders(net: nn.Module, models: dict[str, Modulated], x: Tensor, sizes: Sequence[int]) -> dict[str, Run]:
    ids = [task for task, size in enumerate(sizes) for _ in range(size)]
    pieces = x.split(list(sizes))
    plain: dict[str, Run] = {"plain": lambda: [net(piece) for piece in pieces]}
    return plain | {name: lambda m=model: m(x, task=ids) for name, model in models.items()}


def _cache(model: Modulated, net: nn.Module, x: Tensor) -> tuple[int, Bar]:
    """Bytes that the cache of four tasks holds, and what the call that fills it costs, once."""
    held: list[int] = []
    fill: dict[str, Run] = {"plain": lambda: net(x), "cache": lambda: held.append(model.cache(0, 1, 2, 3))}
    samples = interleave(fill, turns=1, warm_up=0)
    return held[0], samples.bar("first model.cache of 4 tasks / one plain forward", "cache", "plain")


def _floor(net: nn.Module, samples: Samples) -> str:
    """The ratio that is left if building four sets of weights costs one read and one write of the weights, no more."""
    moved = 4 * 2 * sum(p.numel() * p.element_size() for p in net.parameters() if p.ndim > 1)
    return (
        f"{1 + moved * copy_seconds_per_byte() / samples.median('plain'):.3f} ({moved:,} bytes at the speed of a copy)"
    )


def _adding() -> list[Bar]:
    """Tasks 1-10 of one model in turn with tasks 295-304 of another."""
    models = {"early": small(1), "late": small(295)}
    counts = {"early": iter(range(1, 100)), "late": iter(range(295, 400))}
    contenders: dict[str, Run] = {name: lambda n=name: models[n].add(next(counts[n])) for name in models}  # type: ignore[misc]
    return [interleave(contenders, turns=10, warm_up=1).bar("add task 300 / add task 1", "late", "early", 1.2)]


def network() -> nn.Module:
    """A random ResNet-18, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = resnet18(weights=None)
        return net.eval()


def masked(net: nn.Module, x: Tensor, kind: Kind) -> Modulated:
    """Four tasks of masks on all weights."""
    target = Target(net, x[:2])
    return Modulated(target, Modulator(kind, Table(4), target.weights("*"), seed=1)).eval()


def small(tasks: int) -> Modulated:
    """An MLP 784-300-100 with masks on all weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100))
    target = Target(net, torch.zeros(2, 784))
    return Modulated(target, Modulator(Threshold(), Table(tasks), target.weights("*"), seed=1))
