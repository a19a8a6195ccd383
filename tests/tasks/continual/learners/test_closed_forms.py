"""The brackets, and statistics per task, against closed forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.config.load import load
from tasks.continual.learners import Dense, Nothing, Ridge
from tasks.continual.learners.ridge import GRID
from tests.tasks.continual.runs import SEQUENCE, matrix, result, run_sequence
from tests.tasks.setup import bench, state_of, stream_of, target_of


def built(data: str, *overrides: str) -> tuple[Any, Any, Any]:
    config = load([*SEQUENCE, data, *overrides])
    return config, stream_of(config), target_of(config)


def accuracies(logits: Callable[[Tensor], Tensor], stream: Any) -> list[float]:
    return [float((logits(t.view(t.test.images)).argmax(1) == t.test.labels).double().mean()) for t in stream]


def test_nothing_is_the_target(data: str, tmp_path: Path) -> None:
    _, stream, target = built(data, "learner=nothing")
    x = stream[0].view(stream[0].test.images)
    assert torch.equal(Nothing(target, stream, bench())(x, 0), target(x))
    folder = run_sequence(tmp_path, data, "learner=nothing")
    assert matrix(folder)["matrix"][-1] == accuracies(target, stream)
    assert (result(folder)["trained"], matrix(folder)["forgetting"]) == ("nothing", 0.0)
    assert result(folder)["costs"]["parameters_per_task"] == 0


def test_dense_trains_everything_and_leaves_the_target(data: str, tmp_path: Path) -> None:
    _, stream, target = built(data, "learner=dense")
    learner = Dense(target, stream, bench())
    x = stream[0].view(stream[0].train.images)
    assert torch.equal(learner(x, 0), target(x))
    torch.nn.functional.cross_entropy(learner(x, 0), stream[0].train.labels).backward()
    with torch.no_grad():
        for parameter in learner.parameters():
            assert float(parameter.grad.abs().max()) > 0  # type: ignore[union-attr]
            parameter -= parameter.grad
    target.verify()
    assert not torch.equal(learner(x, 0), target(x))
    folder = run_sequence(tmp_path, data, "learner=dense", "steps=60")
    found = result(folder)
    assert (found["trained"], found["costs"]["parameters_shared"]) == ("in sequence", 64 * 16 + 16 * 10)
    assert matrix(folder)["matrix"][0][0] > accuracies(target, stream)[0]


def test_ridge_is_the_solution_of_least_squares(data: str, tmp_path: Path) -> None:
    _, stream, target = built(data, "learner=ridge")
    learner = Ridge(target, stream, bench())
    task = stream[1]
    learner.after_task(1, task)
    W = target.tensors()["1.weight"].double().numpy()

    def features(images: Tensor) -> np.ndarray:
        h = np.maximum(task.view(images).double().flatten(1).numpy() @ W.T, 0)
        return np.concatenate([h, np.ones((len(h), 1))], 1)

    def solve(H: np.ndarray, Y: np.ndarray, penalty: float) -> np.ndarray:
        """min |H A - Y|^2 + c n |A|^2, as one least-squares problem."""
        below = np.sqrt(penalty * len(H)) * np.eye(H.shape[1])
        stacked = np.concatenate([H, below]), np.concatenate([Y, np.zeros((H.shape[1], Y.shape[1]))])
        return np.linalg.lstsq(*stacked, rcond=None)[0]

    H, labels = features(task.train.images), task.train.labels.numpy()
    Y, held = np.eye(10)[labels], np.arange(len(labels)) % 5 == 0
    scores = [((H[held] @ solve(H[~held], Y[~held], c)).argmax(1) == labels[held]).mean() for c in GRID]
    expected = solve(H, Y, GRID[int(np.argmax(scores))])
    np.testing.assert_allclose(learner.readouts["1"].numpy(), expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    logits = learner(task.view(task.test.images), 1).numpy()
    np.testing.assert_allclose(logits, features(task.test.images) @ expected, atol=1e-4)
    folder = run_sequence(tmp_path, data, "learner=ridge")
    right = (logits.argmax(1) == task.test.labels.numpy()).mean()
    assert matrix(folder)["matrix"][1][1] == pytest.approx(float(right))
    assert (matrix(folder)["forgetting"], result(folder)["costs"]["parameters_per_task"]) == (0.0, 17 * 10)


def test_the_statistics_of_each_task_are_measured(data: str, tmp_path: Path) -> None:
    asked = ["modulator=bn_only_statistics", "target=mlp_batchnorm", "target.kwargs.hidden=[16]"]
    folder = run_sequence(tmp_path, data, *asked)
    costs = result(folder)["costs"]
    assert matrix(folder)["forgetting"] == 0.0
    assert costs["parameters_per_task"] == 2 * 16
    assert costs["bytes_per_task"] == 4 * 4 * 16  # gain, bias, mean and variance in float32
    state = state_of(folder)["learner"]
    _, stream, target = built(data, *asked)
    for number, task in enumerate(stream):
        x = task.view(task.train.images).flatten(1) @ target.tensors()["1.weight"].T
        kept = {k: v for k, v in state.items() if f".statistics.source.rows.{number}." in k}
        mean = next(v for k, v in kept.items() if "running_mean" in k)
        variance = next(v for k, v in kept.items() if "running_var" in k)
        torch.testing.assert_close(mean, x.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(variance, x.var(0), rtol=1e-4, atol=1e-5)
