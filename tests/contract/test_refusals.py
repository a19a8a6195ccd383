"""A user's mistake gets one readable line: the rule, the value, the remedy."""

from typing import Any

import pytest
import torch
from torch import nn

from neuromod import (
    Affine,
    Gate,
    Generated,
    Head,
    Hypernet,
    LowRankDelta,
    Modulated,
    Modulator,
    Recipe,
    RefusedError,
    Statistics,
    Table,
    Target,
    Threshold,
    TopK,
    bake,
    calibrate,
)
from tasks.networks import conv, mlp
from tests.refusals import refuses

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def target() -> Target:
    return Target(mlp((12,), 5, (10, 8), norm="layer", bias=True), X)


def masks(t: Target, tasks: int = 3) -> Modulator:
    return Modulator(Threshold(), Table(tasks), t.weights("*"), seed=0)


def model(tasks: int = 3) -> Modulated:
    t = target()
    return Modulated(t, masks(t, tasks))


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        (None, ("reads the task", "got none", "pass task=")),
        (7, ("task 7", "known are [0, 1, 2]", "add(7)")),
        (-1, ("not negative", "-1")),
        (True, ("integers and not bools", "True")),
        (1.5, ("integers", "1.5")),
        ([0, 1, 2], ("one per sample (6 here)", "3 ids")),
        (torch.tensor([0.0] * 6), ("integers", "torch.float32", "long()")),
        (torch.tensor([True] * 6), ("integers", "torch.bool")),
        (torch.zeros(5, dtype=torch.long), ("one per sample (6 here)", "(5,)")),
        (torch.zeros(6, 1, dtype=torch.long), ("one per sample", "(6, 1)")),
    ],
)
def test_a_wrong_task(task: object, parts: tuple[str, ...]) -> None:
    with refuses(*parts):
        model()(X, task=task)


def test_what_a_call_is_given_is_used_or_refused() -> None:
    with refuses("condition= is given", "no modulator reads it"):
        model()(X, task=0, condition=torch.zeros(4))
    with refuses("draw=", "no such kind"):
        model()(X, task=0, draw=1)
    with refuses("by position, and task=", "got tasks="):
        model()(X, task=0, tasks=1)
    with refuses("takes 1 inputs", "got 2"):
        model()(X, X, task=0)
    t = target()
    gated = Modulated(t, Modulator(Gate(), Hypernet("input"), t.norms(), seed=0))
    with refuses("task= is given", "no modulator reads it"):
        gated(X, task=0)


def test_rows_of_another_batch_or_model() -> None:
    t = target()
    model = Modulated(t, Modulator(Affine(), Hypernet("input"), t.norms(), seed=0))
    rows = model.rows(X)
    with refuses("of 6 samples, the inputs are 4"):
        model(X[:4], rows=rows)
    with refuses("of 1 samples, the inputs are 6"):
        model(X, rows=model.rows(X[:1]))
    with refuses("rows of every modulator", "{}"):
        model(X, rows={})


@pytest.mark.parametrize("x", [X[:0], X[0, 0], [1.0]])
def test_inputs_without_a_batch(x: Any) -> None:
    t = target()
    model = Modulated(t, Modulator(Affine(), Table(None), t.norms(), seed=0))
    with pytest.raises(RefusedError, match=r"at least one sample|batch on axis 0"):
        model(x)


def test_a_bias_that_a_head_would_ignore() -> None:
    t = target()
    bias = t.head()[0].name.replace("weight", "bias")
    with refuses("'generated' and 'head' both write", bias):
        Modulated(
            t,
            Modulator(Generated(), Table(1), t.weights(bias), seed=0),
            Modulator(Head(), Table(1), t.head(), seed=0),
        )


def test_an_activation_behind_a_norm_of_batch_statistics() -> None:
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU())
    t = Target(net, torch.randn(4, 5), norm="batch")
    statistics = Modulator(Statistics(), Table(2), t.statistics(), seed=0)
    with refuses("reads '2' behind a norm", "norm='frozen'"):
        Modulated(t, Modulator(Affine(), Hypernet("activation:2"), t.outputs("3"), seed=0), statistics)
    Modulated(t, Modulator(Affine(), Hypernet("activation:0"), t.outputs("3"), seed=0), statistics)


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        (None, ("reads the condition", "got none")),
        (torch.zeros(5, 4), ("or (6, 4)", "(5, 4)")),
        (torch.zeros(6, 3), ("is (4) for all", "(6, 3)")),
        (torch.zeros(4, dtype=torch.long), ("condition of floats", "labels=")),
        ([0.0] * 4, ("is a tensor", "list")),
        (torch.full((4,), torch.nan), ("finite numbers", "NaN")),
    ],
)
def test_a_wrong_condition(condition: Any, parts: tuple[str, ...]) -> None:
    t = target()
    film = Modulated(t, Modulator(Affine(), Hypernet("condition", embedding=4), t.norms(), seed=0))
    with refuses(*parts):
        film(X, condition=condition)


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (lambda: TopK(1.5), ("density", "(0, 1]", "1.5")),
        (lambda: Gate(form="sigmod"), ("'sigmod'", "'sigmoid'")),
        (lambda: LowRankDelta(rank=0), ("rank", "0")),
        (lambda: Hypernet("imput"), ("'input'", "'imput'")),
        (lambda: Table(-1), ("a count or distinct ids", "-1")),
        (lambda: Table([0, 0]), ("distinct ids", "[0, 0]")),
        (lambda: Recipe("a:b", init="kaiming"), ("'kaiming'", "'kaiming_normal'")),
        (lambda: Recipe("nowhere:net").build(), ("'package.module:name'", "'nowhere:net'")),
        (lambda: Target(nn.Linear(2, 2), torch.zeros(3, 2), norm="batched"), ("'batched'", "'batch'")),
    ],
)
def test_wrong_options(build: object, parts: tuple[str, ...]) -> None:
    with refuses(*parts):
        build()  # type: ignore[operator]


def test_two_writers_of_one_tensor() -> None:
    t = target()
    everywhere = t.weights("*")
    heads = Modulator(Head(), Table(2), t.head(), seed=0)
    with refuses("'threshold'", "'head'", "7.weight"):
        Modulated(t, masks(t), heads)
    with refuses("'threshold'", "'generated'", "put the replacing one first"):
        Modulated(t, masks(t), Modulator(Generated(), Table(2), everywhere, seed=0))
    Modulated(t, Modulator(Generated(), Table(3), everywhere, seed=0), masks(t))


def test_roles_and_targets() -> None:
    t = target()
    with refuses("Affine acts on output", "weight"):
        Modulator(Affine(), Table(2), t.weights("*"), seed=0)
    with refuses("at least one site"):
        Modulator(Affine(), Table(2), (), seed=0)
    shared = masks(t)
    Modulated(t, shared)
    with refuses("belongs to one target"):
        Modulated(target(), shared)


def test_loading_on_another_target() -> None:
    a, b = model(), model()
    with refuses("the target they were made for"):
        b.load_state_dict(a.state_dict())


def test_adding_a_task() -> None:
    m = model()
    with refuses("added once", "task 1"):
        m.add(1)
    with refuses("takes no options", "'width'"):
        m.modulators["threshold"].add(9, width=3)
    m.seal(2)
    with refuses("added once", "task 2"):
        m.add(2)


def test_batch_statistics_need_a_place_and_a_measurement() -> None:
    net = conv((2, 8, 8), 5, (4, 6))
    t = Target(net, IMAGES, norm="batch")
    affine = lambda: Modulator(Affine(), Table(2), t.norms(), seed=0)  # noqa: E731
    with refuses("norm='batch'", "'1'", "Statistics()"):
        Modulated(t, affine())
    keep = Modulator(Statistics(), Table(2), t.statistics(), seed=0)
    m = Modulated(t, affine(), keep)
    m.train()(IMAGES, task=0)
    with refuses("task 0 has none", "calibrate(model, 0, data)"):
        m.eval()(IMAGES, task=0)
    with refuses("at least one batch"):
        calibrate(m, 0, [])
    calibrate(m, 0, IMAGES)
    assert bool(torch.isfinite(m(IMAGES, task=0)).all())
    per_sample = Modulator(Threshold(), Hypernet("input", chunk=None, hidden=2), t.weights("9*"), seed=0)
    with refuses("statistics over a task's samples", "'threshold'"):
        Modulated(t, Modulator(Statistics(), Table(2), t.statistics(), seed=0), per_sample)


def test_what_cannot_be_baked() -> None:
    t = Target(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)), X)
    with refuses("'1' is a ReLU"):
        bake(Modulated(t, Modulator(Gate(), Table(1), t.outputs(nn.ReLU), seed=0)), task=0)
    bare = Target(nn.Sequential(nn.Linear(12, 8, bias=False), nn.Linear(8, 2)), X)
    with refuses("keeps its keys", "'0' has no bias", "bias=True"):
        bake(Modulated(bare, Modulator(Affine(), Table(1), bare.outputs("0"), seed=0)), task=0)


def test_nan_scores() -> None:
    t = target()
    m = Modulated(t, Modulator(TopK(), Table(1), t.weights("*"), seed=0))
    with torch.no_grad():
        next(m.parameters())[0, 0] = torch.nan
    with refuses("scores must be finite", "NaN"):
        m(X, task=0)


def test_a_body_that_does_not_fit() -> None:
    t = target()
    with refuses("a body must map", "(6, 3, 4)"):
        Modulated(t, Modulator(Gate(), Hypernet("input", body=nn.Unflatten(1, (3, 4))), t.norms(), seed=0))
