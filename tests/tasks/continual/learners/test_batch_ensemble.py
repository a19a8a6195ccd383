"""BatchEnsemble against its equation, and which parameters learn with which task."""

from typing import Any

import torch

from neuromod.seeds import generator
from tasks.continual.learners import BatchEnsemble
from tests.tasks.continual.learners.stage import FIRST, LAST, images, moves, state, train
from tests.tasks.setup import bench


def test_batch_ensemble_is_its_equation(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = BatchEnsemble(target, stream, bench(5))
    with torch.no_grad():
        for number, value in enumerate(learner.factors.parameters()):
            assert set(value.unique().tolist()) <= {-1.0, 1.0}
            value += torch.rand(value.shape, generator=generator("moved", number))
    x, _ = images(stream, 0)
    for task in range(3):
        own = {name.replace("/", "."): value for name, value in learner.factors[task].named_parameters()}
        h = x.flatten(1)
        for name in (FIRST, LAST):
            W, r, s = learner.net.get_parameter(name), own[f"{name}:r"], own[f"{name}:s"]
            h = (h * r) @ W.T * s
            h = h.relu() if name == FIRST else h
        torch.testing.assert_close(learner(x, task), h, rtol=1e-4, atol=1e-5)


def test_shared_weights_learn_with_the_first_task_alone_and_factors_with_their_own(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = BatchEnsemble(target, stream, bench(5), weights_lr=1e-3)
    optimizer = torch.optim.Adam(learner.groups(), lr=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1e-3]
    weights = {f"net.{FIRST}", f"net.{LAST}"}
    before = state(learner)
    train(learner, stream, 0)
    own = {f"factors.{{}}.{name.replace('.', '/')}:{part}" for name in (FIRST, LAST) for part in "rs"}
    assert moves(before, state(learner)) == weights | {name.format(0) for name in own} | {"frozen"}
    for task in (1, 2):
        before = state(learner)
        assert not any(p is w for g in learner.groups() for p in g["params"] for w in learner.net.parameters())
        train(learner, stream, task)
        assert moves(before, state(learner)) == {name.format(task) for name in own}
    fresh = BatchEnsemble(target, stream, bench(5))
    fresh.load_state_dict(learner.state_dict())
    assert not any(p.requires_grad for p in fresh.net.parameters())
