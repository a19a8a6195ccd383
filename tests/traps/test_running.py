"""vmap, caches, graphs and calls without gradients give what the plain call gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neuromod import (
    Affine,
    Gate,
    Hypernet,
    Kind,
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Table,
    Target,
    Threshold,
    TopK,
)
from tasks.networks import mlp
from tests.traps.common import IDS, close, draw, filled, masks, moved, noisy


@pytest.mark.parametrize("kind", [Threshold(), LowRankDelta(), Affine()])
def test_vmap_equals_splitting(kind: Kind) -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5, 4), norm="layer", bias=True)), x)
    sites = target.norms() if isinstance(kind, Affine) else target.weights("*")
    models = [
        moved(Modulated(target, Modulator(kind, Table(3), sites, seed=0), vmap=vmap)).train() for vmap in (False, True)
    ]
    outputs = [model(x, task=IDS) for model in models]
    close(outputs[1], outputs[0])
    gradients = [
        torch.autograd.grad((o * draw(6, 3, seed=4)).sum(), list(m.parameters()))
        for o, m in zip(outputs, models, strict=True)
    ]
    for a, b in zip(*gradients, strict=True):
        close(b, a)
    close(models[1](x, task=2), models[0](x, task=2))


def test_vmap_with_a_row_for_each_input() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    models = [
        moved(
            Modulated(
                target, Modulator(LowRankDelta(), Hypernet("input", hidden=4), target.weights("*"), seed=0), vmap=v
            )
        )
        for v in (False, True)
    ]
    close(models[1](x), models[0](x))
    assert float((models[0](x) - target(x)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_model_runs_where_gradients_are_off(off: Callable[[], torch.no_grad]) -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), norm="layer", bias=True)), x)
    parts = [
        Modulator(TopK(), Table(3), target.weights("*"), seed=0),
        Modulator(Gate(), Hypernet("input", hidden=2), target.norms(), seed=1),
    ]
    model = Modulated(target, *parts).train()
    expected = model(x, task=IDS)
    with off():
        assert torch.equal(model(x, task=IDS), expected)
        assert torch.equal(model.eval()(x, task=IDS), expected)
    model(x, task=IDS).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_cached_weights_are_the_same_weights() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), norm="layer", bias=True)), x)
    parts = [
        Modulator(Threshold(), Table(3), target.weights("*"), seed=0),
        Modulator(Affine(), Table(3), target.norms(), seed=1),
    ]
    model = moved(Modulated(target, *parts)).eval()
    expected = model(x, task=IDS)
    weights = sum(v.numel() for k, v in target.tensors().items() if k not in ("1.bias", "4.bias"))
    assert model.cache(0, 1, 2) == 3 * 8 * weights
    close(model(x, task=IDS), expected, 1e-14)
    assert not model(x, task=1).requires_grad
    with torch.no_grad():
        next(p for k, p in model.named_parameters() if ".rows.1." in k).neg_()
    assert torch.equal(model(x, task=IDS), model(x, task=IDS))
    close(model(x, task=IDS), expected, 1e-14)  # kept as they were
    stale = model(x, task=1)
    assert not torch.equal(model.train()(x, task=1), stale)
    assert not torch.equal(model.eval()(x, task=1), stale)
    model.cache(1)
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    assert model(x, task=1).requires_grad


def test_a_cache_serves_evaluation_without_noise_alone() -> None:
    model, x = noisy()
    moved(model).eval()
    sampled, plain = model(x, task=0, draw=3), model(x, task=0)
    assert not torch.equal(sampled, plain)
    model.cache(0)
    close(model(x, task=0), plain, 1e-14)
    assert torch.equal(model(x, task=0, draw=3), sampled)
    model.train().cache(0)
    assert model(x, task=0).requires_grad
    quiet = masks(model.target, 0)
    quiet.eval().cache(0)
    with pytest.raises(RefusedError, match="draw="):
        quiet(x, task=0, draw=3)


def test_a_graph_of_sealed_tasks_is_exported_with_the_task_as_an_input() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    model = moved(Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0))).eval()
    expected = [model(x, task=t) for t in range(3)]
    for task in range(3):
        model.seal(task)
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"inputs": ({0: batch},), "task": {}}
    with torch.no_grad():
        program = torch.export.export(model, (x,), {"task": torch.tensor(1)}, dynamic_shapes=shapes)
    for task in range(3):
        close(program.module()(x, task=torch.tensor(task)), expected[task])
        close(program.module()(x[:4], task=torch.tensor(task)), expected[task][:4])


@pytest.mark.parametrize("make", [int, np.int64, np.uint8, torch.tensor])
def test_a_cached_task_is_found_whatever_its_id_was_made_of(make: Callable[[int], Any]) -> None:
    x = draw(4, 8)
    target = Target(filled(nn.Sequential(nn.Linear(8, 3))), x)
    model = Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0)).eval()
    before = model(x, task=1)
    assert model.cache(make(1), make(1)) > 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.neg_()
    assert torch.equal(model(x, task=1), before)
    with pytest.raises(RefusedError, match=r"a task id is an integer of 0 or more.*\[0, 1\]"):
        model.cache([0, 1])
