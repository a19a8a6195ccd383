"""Modulation of each input of a batch, or of many tasks in it, against the plain network; float32, one thread.

FiLM and gates from an input hypernetwork on ResNet-18 (3x64x64, batch 16); rank-one masks on an MLP 784-1024-1024-10 (batch
128); low-rank deltas of 4 to 64 tasks in a batch of 16 on a small vision transformer.
"""

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import vit
from benchmarks.machine import conditions
from benchmarks.mixed_batch import network as resnet
from benchmarks.timing import Bar, Report, Samples, interleave
from neuromod import (
    Affine,
    Gate,
    Hypernet,
    Kind,
    LowRankDelta,
    Modulated,
    Modulator,
    Rank1,
    Table,
    Target,
)
from neuromod.seeds import generator

SIZES = (784, 1024, 1024, 10)
BATCH, IMAGES, RANK = 128, 16, 8
COUNTS = (4, 16, 64)

Run = Callable[[], object]


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    fixed = conditions()
    turns = 7 if quick else 21
    low_rank, peer = _low_rank(turns)
    return Report("conditioned", (*_each_input(turns), *_rank_one(3 * turns), *low_rank), fixed | {"peft": peer})


# ---- FiLM and gates from the input ---------------------------------------------------------------------------------


def _each_input(turns: int) -> list[Bar]:
    net = resnet()
    x = torch.randn(IMAGES, 3, 64, 64, generator=generator(0, "images"))
    target = Target(net, x[:2])
    bars = []
    for name, kind in {"FiLM": Affine(), "gates": Gate("doubled")}.items():
        model = conditioned(target, kind)
        for what, contenders in {"forward": _forwards(net, model, x), "step": _steps(net, model, x)}.items():
            samples = without(interleave(contenders, turns=turns), "modulated", "body")
            label = f"{name} a sample, {what} less its body's"
            bars.append(samples.bar(f"{label} / plain", "modulated less body", "plain", 1.2))
            if "norms" in contenders:
                bars.append(samples.bar(f"{label} / norms trained", "modulated less body", "norms"))
            bars.append(samples.bar(f"{name}: body and head, {what} / plain", "body", "plain"))
    return bars


def conditioned(target: Target, kind: Kind) -> Modulated:
    """A gain (and bias) a sample at every norm, from a small convolutional body that reads the input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        body = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    return Modulated(target, Modulator(kind, Hypernet("input", body=body), target.norms(), seed=1))


def without(samples: Samples, name: str, part: str) -> Samples:
    """The same samples with the time of ``name`` less that of its ``part``, turn by turn."""
    rest = [a - b for a, b in zip(samples.seconds[name], samples.seconds[part], strict=True)]
    return Samples({**samples.seconds, f"{name} less {part}": rest})


def _forwards(net: nn.Module, model: Modulated, x: Tensor) -> dict[str, Run]:
    calls: dict[str, Run] = {"plain": lambda: net(x), "modulated": lambda: model(x), "body": lambda: model.rows(x)}
    return {name: torch.no_grad()(call) for name, call in calls.items()}


def _steps(net: nn.Module, model: Modulated, x: Tensor) -> dict[str, Run]:
    """Forward and backward of everything that learns: all weights, the norms' affine parameters, the hypernetwork."""
    norms = resnet()
    for name, parameter in norms.named_parameters():
        parameter.requires_grad_("bn" in name or "downsample.1" in name)

    def rows() -> Tensor:
        found = model.rows(x)
        return torch.stack([v.sum() for r in found.values() for v in r.stacked().values()]).sum()

    calls: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "plain": (net, lambda: net(x).square().mean()),
        "norms": (norms, lambda: norms(x).square().mean()),
        "modulated": (model, lambda: model(x).square().mean()),
        "body": (model, rows),
    }
    return {name: lambda c=call: _backward(*c) for name, call in calls.items()}  # type: ignore[misc]


def _backward(module: nn.Module, loss: Callable[[], Tensor]) -> None:
    module.zero_grad(set_to_none=True)
    loss().backward()


# ---- rank-one masks a sample ---------------------------------------------------------------------------------------


def _rank_one(turns: int) -> list[Bar]:
    x = torch.randn(BATCH, SIZES[0], generator=generator(0, "inputs"))
    y = torch.randint(0, SIZES[-1], (BATCH,), generator=generator(0, "labels"))
    net = mlp()
    model = rank_one(Target(mlp(), x[:2]))
    contenders: dict[str, Run] = {"plain": _step(net, x, y), "rank one": _step(model, x, y)}
    samples = interleave(contenders, turns=turns)
    return [
        samples.bar("rank-one masks a sample, step / plain step", "rank one", "plain", 1.3),
        Bar("the same, largest difference from weights built under vmap", _from_built(model, x[:32]), 1e-5),
    ]


def mlp() -> nn.Sequential:
    """The same network every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(a, b) for a, b in pairwise(SIZES)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def rank_one(target: Target, *, vmap: bool = False) -> Modulated:
    """Binary masks of rank one on all weights, generated for each input."""
    masks = Modulator(Rank1("hard"), Hypernet("input", hidden=16), target.weights("*"), seed=1)
    return Modulated(target, masks, vmap=vmap)


def _step(model: nn.Module, x: Tensor, y: Tensor) -> Run:
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)

    def once() -> None:
        _backward(model, lambda: nn.functional.cross_entropy(model(x), y))
        optimiser.step()

    return once


@torch.no_grad()
def _from_built(model: Modulated, x: Tensor) -> float:
    """Largest relative difference of outputs from the same masks multiplied into a weight a sample."""
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator(0, "moved", tuple(parameter.shape))) * 0.02)
    built = rank_one(model.target, vmap=True)
    built.load_state_dict(model.state_dict())
    folded, expected = model(x), built(x)
    return float((folded - expected).abs().max() / expected.abs().max())


# ---- low-rank deltas of many tasks ---------------------------------------------------------------------------------


@torch.no_grad()
def _low_rank(turns: int) -> tuple[list[Bar], str]:
    net = vit.network()
    x = torch.randn(IMAGES, 3, vit.IMAGE, vit.IMAGE, generator=generator(0, "images"))
    target = Target(net, x[:2])
    models = {n: low_rank(target, n) for n in COUNTS}
    ids = {n: [i % n for i in range(IMAGES)] for n in COUNTS}
    contenders: dict[str, Run] = {"plain": lambda: net(x)}
    contenders |= {f"of {n}": lambda n=n: models[n](x, task=ids[n]) for n in COUNTS}  # type: ignore[misc]
    sealed = low_rank(target, COUNTS[-1])
    for task in range(COUNTS[-1]):
        sealed.seal(task)
    contenders["sealed"] = lambda: sealed(x, task=ids[COUNTS[-1]])
    peers, said = _peer(x)
    samples = interleave(contenders | peers, turns=3 * turns)
    bars = [samples.bar(f"low-rank, 16 samples of {n} tasks / plain", f"of {n}", "plain", 1.35) for n in COUNTS]
    bars += [
        samples.bar("low-rank, 64 tasks / 4 tasks", "of 64", "of 4", 1.1),
        samples.bar("low-rank, 64 sealed tasks / plain", "sealed", "plain", 1.35),
    ]
    bars += [samples.bar(f"{name} / plain", name, "plain") for name in peers]
    return bars, said


def low_rank(target: Target, tasks: int) -> Modulated:
    """Rank-8 deltas a task on all linear layers of the blocks, away from their start."""
    deltas = Modulator(LowRankDelta(RANK), Table(tasks), target.weights("blocks.*"), seed=1)
    model = Modulated(target, deltas).eval()
    for name, parameter in model.named_parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator(0, "moved", name)) * 0.01)
    return model


def _peer(x: Tensor) -> tuple[dict[str, Run], str]:
    """The same mixed batch of 16 adapters in peft, where it is installed (``pip install peft``)."""
    if importlib.util.find_spec("peft") is None:
        return {}, "not installed"
    import peft

    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(vit.LAYERS), init_lora_weights=False)
    model: Any = peft.get_peft_model(vit.network(), config, adapter_name="0")
    for i in range(1, IMAGES):
        model.add_adapter(str(i), config)
    model.eval()
    names = [str(i) for i in range(IMAGES)]
    return {"peft, 16 samples of 16 adapters": lambda: model(x, adapter_names=names)}, peft.__version__
