"""Sequential meta-testing: ANML's head, 2,304 features to 1,000 outputs, learns 600 classes of 15 images, one at a time.

Features are computed once and left out of both sides. SGD learns all 9,000 samples; a step of Adam takes as long whatever came
before it, so 900 of them are timed. The textbook loop is autograd and an optimiser of torch; results are compared in float64 first.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from benchmarks.machine import conditions
from benchmarks.timing import Bar, Report, interleave
from neuromod.meta import LinearHead, streaming
from neuromod.seeds import generator

CLASSES, OUTPUTS, SIZE, SAMPLES, FEW = 600, 1000, 2304, 9000, 900
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
Build = Callable[[list[Tensor], float], torch.optim.Optimizer]
OPTIMISERS: dict[str, Build] = {
    "sgd": lambda p, rate: torch.optim.SGD(p, lr=rate),
    "adam": lambda p, rate: torch.optim.Adam(p, lr=rate),
}
OURS: dict[str, Callable[..., Any]] = {"sgd": streaming.sgd, "adam": streaming.adam}


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    fixed, turns = conditions(), 1 if quick else 3
    features, labels, head = data(SAMPLES)
    few = features[:FEW], labels[:FEW], head
    one, rates = torch.tensor([1e-3]), torch.tensor(RATES)
    samples = interleave(
        {
            "loop": lambda: textbook(features, labels, head, 1e-3, "sgd"),
            "dual": lambda: last(streaming.sgd(features, labels, head, one)),
            "eight": lambda: last(streaming.sgd(features, labels, head, rates)),
            "products": lambda: products(features, head),
            "adam loop": lambda: textbook(*few, 1e-3, "adam"),
            "adam": lambda: last(streaming.adam(*few, one)),
            "moves": lambda: moves(head, FEW),
        },
        turns=turns,
        warm_up=1,
    )
    loops = type(samples)({**samples.seconds, "eight loops": [8 * t for t in samples.seconds["loop"]]})
    return Report(
        "meta_test",
        (
            Bar("largest relative difference of a weight, float64", max(map(difference, OURS)), 1e-9),
            samples.bar("SGD: textbook loop / dual form", "loop", "dual", 30, ">="),
            samples.bar("SGD: dual form / the two products of matrices that it can't do without", "dual", "products"),
            loops.bar("SGD, eight rates: eight textbook loops / one recursion", "eight loops", "eight", 15, ">="),
            samples.bar("Adam: textbook loop / ours", "adam loop", "adam", 4, ">="),
            samples.bar(
                "Adam: textbook loop / the bytes that a step moves, at the rate of a copy", "adam loop", "moves"
            ),
            samples.bar("Adam: ours / these bytes", "adam", "moves"),
        ),
        fixed,
    )


def data(
    count: int, dtype: torch.dtype = torch.float32, outputs: int = OUTPUTS, size: int = SIZE
) -> tuple[Tensor, Tensor, LinearHead]:
    """Features (N, D) that are positive as those of a ReLU, classes in order, a fresh head."""
    rng = generator(0, "features")
    features = torch.randn(count, size, generator=rng, dtype=dtype).relu() * 0.1
    labels = torch.arange(count) // 15 % min(CLASSES, outputs)
    head = LinearHead(
        torch.randn(outputs, size, generator=rng, dtype=dtype) / size**0.5, torch.zeros(outputs, dtype=dtype)
    )
    return features, labels, head


def textbook(features: Tensor, labels: Tensor, head: LinearHead, rate: float, name: str) -> LinearHead:
    """A step of autograd and of an optimiser for each sample."""
    w, b = (part.clone().requires_grad_() for part in head)
    optimiser = OPTIMISERS[name]([w, b], rate)
    for f, y in zip(features.split(1), labels.split(1), strict=True):
        optimiser.zero_grad()
        cross_entropy(linear(f, w, b), y).backward()
        optimiser.step()
    return LinearHead(w.detach(), b.detach())


def products(features: Tensor, head: LinearHead, block: int = 128) -> None:
    """What any form with weights computes: logits of every sample, and an update of the weights by every sample."""
    weight = head.weight.clone()
    for f in features.split(block):
        weight.addmm_((f @ weight.T).T, f, alpha=-1e-9)


def moves(head: LinearHead, steps: int) -> None:
    """The bytes of so many steps of Adam and nothing else: weight and both moments are read and written."""
    three = [torch.empty_like(head.weight) for _ in range(3)]
    for _ in range(steps):
        for part in three:
            part.copy_(head.weight)


def last(heads: Any) -> LinearHead:
    """The head at the end of the trajectory, of the first rate."""
    *_, (_, head) = heads
    return LinearHead(head.weight[0], head.bias[0])


def difference(name: str) -> float:
    """Between the textbook loop and ours, relative to the largest weight, on a small head in float64."""
    features, labels, head = data(300, torch.float64, 20, 40)
    rate = torch.tensor([1e-2], dtype=torch.float64)
    found, expected = last(OURS[name](features, labels, head, rate)), textbook(features, labels, head, 1e-2, name)
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).abs().max()) / float(b.abs().max().clamp(min=1e-30)) for a, b in pairs)
