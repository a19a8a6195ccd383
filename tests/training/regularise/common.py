"""Rows of old tasks held while a new one is learned: what their tests share."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Generated,
    Hypernet,
    Kind,
    LowRank,
    LowRankDelta,
    Mixture,
    Modulated,
    Modulator,
    OutputRegulariser,
    Source,
    Target,
    Threshold,
)
from neuromod.seeds import generator
from tasks.networks import mlp
from tests import reference

KINDS: dict[str, Callable[[], Kind]] = {
    "scores": Threshold,
    "affine": Affine,
    "generated": Generated,
    "delta": lambda: LowRankDelta(rank=2),
}
SOURCES: dict[str, Callable[[], Source]] = {
    "whole": lambda: Hypernet("task", tasks=4, hidden=6, embedding=3),
    "chunks": lambda: Hypernet("task", tasks=4, hidden=[6, 5], embedding=3, chunk=7, chunk_code=2),
    "basis": lambda: LowRank(3, tasks=4),
    "experts": lambda: Mixture(3, "task", tasks=4, hidden=6, embedding=3),
}
OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator("test", seed), dtype=torch.float64)


X, Y = draw(16, 6), torch.arange(16) % 3


def target() -> Target:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Target(mlp((6,), 3, (5,), norm="layer", bias=True).double(), X)


def sites(t: Target, kind: Kind) -> Any:
    return t.norms() if isinstance(kind, Affine) else t.weights("*")


def shake(module: nn.Module, seed: int = 0, size: float = 0.3) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += size * draw(*parameter.shape, seed=1000 * seed + i)


def modulated(kind: str = "affine", source: str = "whole") -> Modulated:
    t, made = target(), KINDS[kind]()
    model = Modulated(t, Modulator(made, SOURCES[source](), sites(t, made), seed=0))
    shake(model)
    return model


def held(model: Modulated, *tasks: int, **options: Any) -> OutputRegulariser:
    regulariser = OutputRegulariser(model, **({"beta": 0.7, "seed": 5, "lookahead": False} | options))
    for task in tasks:
        regulariser.hold(task)
    return regulariser


def loss_of(model: Modulated, task: int, seed: int = 0) -> Tensor:
    x = draw(16, 6, seed=seed + 77)
    return nn.functional.cross_entropy(model(x, task=task), (x[:, 0] > 0).long() + task % 2)


def row(source: Source, task: int) -> Tensor:
    """All raw numbers of one task, from the equations of the sources alone."""
    own = dict(source.named_parameters())
    offset = dict(source.offset.named_buffers())
    code = own[f"codes.table.{task}"]
    if isinstance(source, LowRank):
        return torch.cat(
            [reference.low_rank_row(code, source.basis[key], offset[key]).flatten() for key in source.basis]
        )
    assert isinstance(source, Hypernet | Mixture)
    layers = [(own[n], own[n.replace("weight", "bias")]) for n in own if n.startswith("body.") and "weight" in n]
    body = lambda c: torch.relu(reference.mlp(c, layers))  # noqa: E731
    if isinstance(source, Mixture):
        weights = (source.router["weight"] @ body(code) + source.router["bias"]).softmax(0)
        return torch.cat(
            [
                sum(w * expert for w, expert in zip(weights, source.experts[key], strict=True)).flatten()
                for key in source.experts
            ]
        )
    rows = []
    for key, shape in source.shapes.items():
        if source.chunk is None:
            flat = source.head[key] @ body(code) + source.shift[key]
        else:
            head, shift = source.head["chunk"], source.shift["chunk"]
            pieces = [head @ body(torch.cat([code, chunk])) + shift for chunk in source.chunks[key]]
            flat = torch.cat(pieces)[: torch.Size(shape).numel()]
        rows.append(flat * source.scales[key] + (offset[key].flatten() if key in offset else 0))
    return torch.cat(rows)


def slow_penalty(now: Source, then: Source, tasks: list[int], beta: float) -> Tensor:
    """``beta / n * sum_t || h(e_t, Theta*) - h(e_t, Theta) ||^2``, one task and one number after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for task in tasks:
        for a, b in zip(row(then, task).detach().unbind(), row(now, task).unbind(), strict=True):
            total = total + (a - b) ** 2
    return beta / len(tasks) * total


def shared(source: Source) -> dict[str, nn.Parameter]:
    return {name: p for name, p in source.named_parameters() if "codes" not in name}


def bits(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, Any]]:
    """Everything that a step changes, tensors as their bytes."""
    entries: list[tuple[str, Any]] = list(model.state_dict().items())
    saved = optimizer.state_dict()
    entries += [(f"{i}/{key}", value) for i, state in saved["state"].items() for key, value in state.items()]
    entries += [(f"group {i}/{key}", v) for i, group in enumerate(saved["param_groups"]) for key, v in group.items()]
    return [
        (k, v.detach().clone().numpy().tobytes() if isinstance(v, Tensor) else copy.deepcopy(v)) for k, v in entries
    ]
