"""The loop on a tiny image set: resumable to the byte, the brackets against closed forms, what is forgotten."""

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

from tasks.commands.cli import main
from tests.tasks.continual.runs import SEQUENCE, lines, matrix, result, run_sequence
from tests.tasks.ended import ended

ROOT = Path(__file__).parents[3]
NORMED = ["target=mlp_layernorm", "target.kwargs.hidden=[16]"]


# ---- resuming ----------------------------------------------------------------------------------------------------------

LONG = ["steps=250", "log_every=10", "save_every=50", "optimizer=sgd"]
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "before the first checkpoint": lambda folder: (folder / "metrics.jsonl").exists(),
    "after a checkpoint": lambda folder: (folder / "checkpoint.safetensors").exists(),
    "in the second task": lambda folder: '"task": 1' in (folder / "metrics.jsonl").read_text(),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    return run_sequence(tmp_path_factory.mktemp("undisturbed"), data, *LONG)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_as_an_undisturbed_one(moment: str, undisturbed: Path, data: str, tmp_path: Path) -> None:
    command = ["train", *SEQUENCE, data, *LONG, "--root", str(tmp_path)]
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
    whole = run_sequence(tmp_path / "whole", data, *overrides)
    with ended(1, monkeypatch):
        run_sequence(tmp_path / "stopped", data, *overrides)
    folder = run_sequence(tmp_path / "stopped", data, *overrides)
    assert lines(folder) == lines(whole)
    assert result(folder) == result(whole)
    assert (folder / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()


def test_the_same_command_twice_does_nothing(data: str, tmp_path: Path) -> None:
    folder = run_sequence(tmp_path, data)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.is_file()}
    assert run_sequence(tmp_path, data) == folder
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.is_file()} == before
    assert run_sequence(tmp_path, data, "steps=21") != folder


# ---- orders and schedules ----------------------------------------------------------------------------------------------


def test_a_sequence_is_measured_after_each_task_and_a_joint_training_at_the_end(data: str, tmp_path: Path) -> None:
    sequence, joint = (
        run_sequence(tmp_path, data, "stream.tasks=3"),
        run_sequence(tmp_path, data, "stream.tasks=3", "run=joint"),
    )
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
    folder = run_sequence(tmp_path, data, "evaluation.unseen=true")
    assert matrix(folder)["forward_transfer"] is not None
    assert matrix(folder)["matrix"][0][1] is not None
    assert matrix(run_sequence(tmp_path, data))["forward_transfer"] is None


def test_a_table_forgets_nothing_and_a_shared_hypernetwork_may(data: str, tmp_path: Path) -> None:
    folder = run_sequence(tmp_path, data, "steps=60")
    table, costs = matrix(folder), result(folder)["costs"]
    assert table["forgetting"] == 0.0
    assert table["matrix"][0][0] == table["matrix"][1][0]
    assert (result(folder)["trained"], costs["parameters_shared"]) == ("per task", 0)
    assert costs["parameters_per_task"] == 64 * 16 + 16 * 10
    assert costs["bytes_per_task"] == costs["bytes_with_shared"] == (64 * 16 + 16 * 10) / 8
    assert min(row[i] for i, row in enumerate(table["matrix"])) > 0.5  # ten classes: something was learned
    shared = run_sequence(tmp_path, data, "steps=60", "modulator=film_hypernet", *NORMED, "optimizer.lr=0.1")
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


@pytest.mark.parametrize("schedule", ["constant", "cosine", "drops", "tests.tasks.continual.test_sequence.half"])
def test_the_schedule_of_each_task(schedule: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Recording, "rates", rates)
    optimizer = ["optimizer._target_=tests.tasks.continual.test_sequence.Recording", "optimizer.lr=0.5"]
    run_sequence(tmp_path, data, f"schedule={schedule}", *optimizer)
    expected = {
        "constant": [0.5] * 20,
        "cosine": [0.25 * (1 + np.cos(np.pi * i / 20)) for i in range(20)],
        "drops": [0.5] * 10 + [0.05] * 5 + [0.005] * 5,
        "tests.tasks.continual.test_sequence.half": [0.25] * 10 + [0.125] * 10,
    }[schedule]
    np.testing.assert_allclose(rates, expected * 2, rtol=1e-12)
    assert schedule not in ("cosine", "drops") or rates[-1] <= 0.0101 * rates[0]


def test_a_loss_that_diverges_is_one_line(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*SEQUENCE, data, "learner=dense", "optimizer=sgd", "optimizer.lr=1e30", "--root", str(tmp_path)]
    assert main(["train", *given]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: the loss must stay finite; got ")
    assert errors[0].endswith("lower the rate (lr)")
    assert not list(tmp_path.glob("*/result.json"))
