"""The loop on a tiny image set: resumable to the byte, the brackets against closed forms, what is forgotten."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.commands.cli import main
from tasks.config.load import load
from tasks.continual.learners import Dense, Nothing, Ridge
from tasks.continual.learners.ridge import GRID
from tasks.experiment import execute
from tasks.runs.files import read_json
from tasks.runs.run import Run
from tests.images import write
from tests.tasks.setup import bench, state_of, stream_of, target_of

ROOT = Path(__file__).parents[2]
TINY = ["experiment=demo/base", "data=tiny", "target=lenet_300_100", "target.kwargs.hidden=[16]", "device=cpu"]
TINY += ["stream.tasks=2", "outputs=10", "batch=16", "optimizer.lr=0.01", "steps=20", "log_every=5", "save_every=10"]
NORMED = ["target=mlp_layernorm", "target.kwargs.hidden=[16]"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.root='{write(tmp_path_factory.mktemp('data'))}'"


def run(root: Path, data: str, *overrides: str) -> Path:
    return execute(load([*TINY, data, *overrides]), root=root, command=["train"], results=root)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock said."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "clock"} for line in found]


def result(folder: Path) -> dict[str, Any]:
    """The result without what a clock said."""
    return {key: value for key, value in read_json(folder / "result.json").items() if key != "seconds"}


def matrix(folder: Path) -> dict[str, Any]:
    """The accuracy matrix of a run, and its numbers."""
    found: dict[str, Any] = result(folder)["measures"]["matrix"]
    return found


# ---- resuming ----------------------------------------------------------------------------------------------------------

LONG = ["steps=250", "log_every=10", "save_every=50", "optimizer=sgd"]
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "before the first checkpoint": lambda folder: (folder / "metrics.jsonl").exists(),
    "after a checkpoint": lambda folder: (folder / "checkpoint.safetensors").exists(),
    "in the second task": lambda folder: '"task": 1' in (folder / "metrics.jsonl").read_text(),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    return run(tmp_path_factory.mktemp("undisturbed"), data, *LONG)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_as_an_undisturbed_one(moment: str, undisturbed: Path, data: str, tmp_path: Path) -> None:
    command = ["train", *TINY, data, *LONG, "--root", str(tmp_path)]
    folder = tmp_path / undisturbed.name
    started = subprocess.Popen([sys.executable, "-m", "tasks", *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while started.poll() is None:
            if (folder / "metrics.jsonl").exists() and MOMENTS[moment](folder):
                break
            time.sleep(0.001)
        os.kill(started.pid, signal.SIGKILL)
    finally:
        started.kill()
        assert started.wait() == -signal.SIGKILL
    assert not (folder / "result.json").exists()
    assert len(lines(folder)) < len(lines(undisturbed))
    assert main(command) == 0
    assert lines(folder) == lines(undisturbed)
    checkpoint = "checkpoint.safetensors"
    assert (folder / checkpoint).read_bytes() == (undisturbed / checkpoint).read_bytes()
    assert result(folder) == result(undisturbed)


@pytest.mark.parametrize("overrides", [["run=joint"], ["schedule=cosine", "optimizer=adam"], ["learner=ridge"]])
def test_a_run_stopped_in_between_goes_on(
    overrides: list[str], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", data, *overrides)
    saves, save = [], Run.save

    def stopping(self: Run, tree: Any, step: int) -> None:
        save(self, tree, step)
        saves.append(step)
        if len(saves) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", data, *overrides)
    folder = run(tmp_path / "stopped", data, *overrides)
    assert len(saves) > 1
    assert lines(folder) == lines(whole)
    assert result(folder) == result(whole)
    assert (folder / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()


def test_the_same_command_twice_does_nothing(data: str, tmp_path: Path) -> None:
    folder = run(tmp_path, data)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.is_file()}
    assert run(tmp_path, data) == folder
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.is_file()} == before
    assert run(tmp_path, data, "steps=21") != folder


# ---- orders and schedules ----------------------------------------------------------------------------------------------


def test_a_sequence_is_measured_after_each_task_and_a_joint_training_at_the_end(data: str, tmp_path: Path) -> None:
    sequence, joint = run(tmp_path, data, "stream.tasks=3"), run(tmp_path, data, "stream.tasks=3", "run=joint")
    known = [[value is not None for value in row] for row in matrix(sequence)["matrix"]]
    assert known == [[True, False, False], [True, True, False], [True, True, True]]
    assert [row[0] is not None for row in matrix(joint)["matrix"]] == [False, False, True]
    assert (result(sequence)["trained"], result(joint)["trained"]) == ("per task", "per task")
    assert matrix(joint)["forgetting"] is None
    tasks = [line["task"] for line in lines(sequence) if line["phase"] == "train"]
    assert tasks == sorted(tasks)
    assert set(tasks) == {0, 1, 2}
    assert {line["task"] for line in lines(joint) if line["phase"] == "train"} == {None}
    for folder in (sequence, joint):  # as many steps either way, told in the order in which they were taken
        steps = [line["step"] for line in lines(folder)]
        assert steps == sorted(steps)
        assert steps[-1] == 60


def test_accuracy_before_training_is_measured_where_asked(data: str, tmp_path: Path) -> None:
    folder = run(tmp_path, data, "evaluation.unseen=true")
    assert matrix(folder)["forward_transfer"] is not None
    assert matrix(folder)["matrix"][0][1] is not None
    assert matrix(run(tmp_path, data))["forward_transfer"] is None


def test_a_table_forgets_nothing_and_a_shared_hypernetwork_may(data: str, tmp_path: Path) -> None:
    folder = run(tmp_path, data, "steps=60")
    table, costs = matrix(folder), result(folder)["costs"]
    assert table["forgetting"] == 0.0
    assert table["matrix"][0][0] == table["matrix"][1][0]
    assert (result(folder)["trained"], costs["parameters_shared"]) == ("per task", 0)
    assert costs["parameters_per_task"] == 64 * 16 + 16 * 10
    assert costs["bytes_per_task"] == costs["bytes_with_shared"] == (64 * 16 + 16 * 10) / 8
    assert min(row[i] for i, row in enumerate(table["matrix"])) > 0.5  # ten classes: something was learned
    shared = run(tmp_path, data, "steps=60", "modulator=film_hypernet", *NORMED, "optimizer.lr=0.1")
    assert result(shared)["trained"] == "in sequence"
    assert result(shared)["costs"]["parameters_shared"] > 0
    assert matrix(shared)["matrix"][0][0] != matrix(shared)["matrix"][1][0]


class Recording(torch.optim.SGD):
    """Notes the rate of every step."""

    rates: ClassVar[list[float]] = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.rates.append(self.param_groups[0]["lr"])
        super().step(closure)


def half(done: float) -> float:
    """A schedule of the user's own."""
    return 0.5 if done < 0.5 else 0.25


@pytest.mark.parametrize("schedule", ["constant", "cosine", "drops", "tests.tasks.test_train.half"])
def test_the_schedule_of_each_task(schedule: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Recording, "rates", rates)
    optimizer = ["optimizer._target_=tests.tasks.test_train.Recording", "optimizer.lr=0.5"]
    run(tmp_path, data, f"schedule={schedule}", *optimizer)
    expected = {
        "constant": [0.5] * 20,
        "cosine": [0.25 * (1 + np.cos(np.pi * i / 20)) for i in range(20)],
        "drops": [0.5] * 10 + [0.05] * 5 + [0.005] * 5,
        "tests.tasks.test_train.half": [0.25] * 10 + [0.125] * 10,
    }[schedule]
    np.testing.assert_allclose(rates, expected * 2, rtol=1e-12)
    assert schedule not in ("cosine", "drops") or rates[-1] <= 0.0101 * rates[0]


def test_a_loss_that_diverges_is_one_line(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*TINY, data, "learner=dense", "optimizer=sgd", "optimizer.lr=1e30", "--root", str(tmp_path)]
    assert main(["train", *given]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("error: the loss must stay finite; got ")
    assert told[0].endswith("lower the rate (lr)")
    assert not list(tmp_path.glob("*/result.json"))


# ---- brackets ----------------------------------------------------------------------------------------------------------


def built(data: str, *overrides: str) -> tuple[Any, Any, Any]:
    config = load([*TINY, data, *overrides])
    return config, stream_of(config), target_of(config)


def accuracies(logits: Callable[[Tensor], Tensor], stream: Any) -> list[float]:
    return [float((logits(t.view(t.test.images)).argmax(1) == t.test.labels).double().mean()) for t in stream]


def test_nothing_is_the_target(data: str, tmp_path: Path) -> None:
    _, stream, target = built(data, "learner=nothing")
    x = stream[0].view(stream[0].test.images)
    assert torch.equal(Nothing(target, stream, bench())(x, 0), target(x))
    folder = run(tmp_path, data, "learner=nothing")
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
    folder = run(tmp_path, data, "learner=dense", "steps=60")
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
    folder = run(tmp_path, data, "learner=ridge")
    right = (logits.argmax(1) == task.test.labels.numpy()).mean()
    assert matrix(folder)["matrix"][1][1] == pytest.approx(float(right))
    assert (matrix(folder)["forgetting"], result(folder)["costs"]["parameters_per_task"]) == (0.0, 17 * 10)


# ---- statistics of each task -------------------------------------------------------------------------------------------


def test_the_statistics_of_each_task_are_measured(data: str, tmp_path: Path) -> None:
    asked = ["modulator=bn_only_statistics", "target=mlp_batchnorm", "target.kwargs.hidden=[16]"]
    folder = run(tmp_path, data, *asked)
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
