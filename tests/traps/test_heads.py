"""Heads of different widths."""

import torch
import torch.nn.functional as F

from neuromod import (
    Head,
    Modulated,
    Modulator,
    Table,
    Target,
    bake,
)
from tasks.networks import mlp
from tests.traps.common import IDS, close, draw, filled, moved


def heads(target: Target) -> Modulated:
    model = Modulated(target, Modulator(Head(), Table(2), target.head(), seed=0)).eval()
    model.modulators["head"].add(2, width=2)
    return model


def test_heads_of_different_widths() -> None:
    x = draw(6, 6)
    net = filled(mlp((6,), 4, (5,), bias=True))
    target = Target(net, x)
    model = moved(heads(target))
    mixed = model(x, task=IDS)
    assert mixed.shape == (6, 4)
    for i, task in enumerate(IDS):
        alone = model(x[i : i + 1], task=task)
        assert alone.shape == (1, 2 if task == 2 else 4)
        close(mixed[i : i + 1, : alone.shape[1]], alone)
        assert bool((mixed[i, alone.shape[1] :] == -torch.inf).all())
    labels = torch.tensor([3, 0, 1, 1, 2, 0])
    F.cross_entropy(mixed, labels).backward()
    assert all(bool(torch.isfinite(p.grad).all()) and float(p.grad.abs().max()) > 0 for p in model.parameters())  # type: ignore[union-attr]

    assert (model.bytes_per_task(0), model.bytes_per_task(2)) == (8 * (4 * 5 + 4), 8 * (2 * 5 + 2))
    twin = Modulated(target, Modulator(Head(), Table(1), target.head(), seed=1)).eval()
    twin.load_state_dict(model.state_dict())  # grows to the tasks and widths that were saved
    assert torch.equal(twin(x, task=IDS), mixed)
    baked = bake(model, task=2)
    close(baked(x), model(x, task=2))
    assert baked[-1].out_features == 2
    for task in (2, 0):
        model.seal(task)
        assert torch.equal(model(x, task=IDS), mixed)
    close(bake(model, task=2)(x), baked(x))
    again = heads(target)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x, task=IDS), mixed)
