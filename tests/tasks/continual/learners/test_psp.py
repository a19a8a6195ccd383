"""Parameter superposition against its equation."""

import dataclasses
from typing import Any

import pytest
import torch

from tasks.continual.learners import Psp
from tests.tasks.continual.learners.stage import FIRST, LAST, images
from tests.tasks.setup import bench


def test_psp_is_its_equation(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = Psp(target, stream, bench(5))
    x, _ = images(stream, 0)
    for task in range(3):
        h = x.flatten(1)
        for name in (FIRST, LAST):
            W, c = learner.net.get_parameter(name), learner.contexts(name)[task]
            y = torch.zeros(len(h), len(W))
            for b in range(len(h)):
                for o in range(len(W)):
                    y[b, o] = (W[o] * (c * h[b])).sum()
            h = y.relu() if name == FIRST else y
        torch.testing.assert_close(learner(x, task), h, rtol=1e-4, atol=1e-5)


def test_contexts_are_signs_nearly_orthogonal_and_come_from_the_seed(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    many, tasks = dataclasses.replace(stream, tasks=stream.tasks[:1] * 200), 200
    learner = Psp(target, many, bench(5))
    contexts = learner.contexts(FIRST)
    assert set(contexts.unique().tolist()) == {-1.0, 1.0}
    between = (contexts @ contexts.T / contexts.shape[1])[~torch.eye(tasks, dtype=torch.bool)]
    assert abs(float(between.mean())) < 0.01
    assert float(between.std()) == pytest.approx(contexts.shape[1] ** -0.5, rel=0.05)
    assert torch.equal(Psp(target, stream, bench(5)).contexts(FIRST), contexts[:3])
    assert not torch.equal(Psp(target, stream, bench(6)).contexts(FIRST), contexts[:3])
    assert set(learner.state_dict()) == {f"net.{FIRST}", f"net.{LAST}"}  # contexts are not stored
