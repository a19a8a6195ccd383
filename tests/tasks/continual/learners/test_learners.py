"""What all learners keep: mixed batches, the frozen target, costs, options; a stopped run ends as a whole one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.config.load import load
from tasks.errors import UserError
from tasks.experiment import Costs, execute
from tasks.runs.files import read_json
from tasks.runs.run import Run
from tests.tasks.continual.learners.stage import FIRST, LAST, TINY, TRAINED, build, images, moves, state, train
from tests.tasks.setup import learner_of, stream_of


def run(root: Path, data: str, method: str) -> Path:
    config = load([*TINY, data, f"learner={method}", "stream.tasks=2"])
    return execute(config, root=root, command=["train"], results=root)


@pytest.mark.parametrize("method", TRAINED)
def test_a_run_that_stops_anywhere_ends_as_a_whole_one(
    method: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", data, method)
    save: Callable[..., None] = Run.save

    def stopping(self: Run, tree: Any, step: int) -> None:
        save(self, tree, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", stopping)
    for _ in range(6):  # two checkpoints within each task and one at its end
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", data, method)
    folder = run(tmp_path / "stopped", data, method)
    checkpoint = "checkpoint.safetensors"
    assert (folder / checkpoint).read_bytes() == (whole / checkpoint).read_bytes()
    results = [{k: v for k, v in read_json(f / "result.json").items() if k != "seconds"} for f in (whole, folder)]
    assert results[0] == results[1]


@pytest.mark.parametrize("method", [*TRAINED, "nothing"])
def test_a_batch_that_mixes_tasks_is_that_of_single_tasks(method: str, stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = build(method, target, stream)
    x, task = torch.cat([images(stream, t)[0] for t in range(3)]), torch.tensor([2, 0, 0, 1, 2, 2] * 3)
    with torch.no_grad():
        expected = torch.cat([learner(x[i : i + 1], int(t)) for i, t in enumerate(task)])
        torch.testing.assert_close(learner(x, task), expected)


@pytest.mark.parametrize("method", TRAINED)
def test_the_target_never_moves(method: str, stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = build(method, target, stream)
    x, _ = images(stream, 0)
    before = learner(x, 0)
    for task in range(2):
        train(learner, stream, task)
    target.verify()
    assert not torch.equal(learner(x, 0), before)


WEIGHTS, FACTORS = 64 * 16 + 16 * 10, 64 + 16 + 16 + 10
COUNTS = {"dense": (0, 0, WEIGHTS), "separate": (WEIGHTS, 4 * WEIGHTS, 0), "ewc": (0, 0, WEIGHTS)}
COUNTS |= {"psp": (0, 0, WEIGHTS), "batch_ensemble": (FACTORS, 4 * FACTORS, WEIGHTS), "nothing": (0, 0, 0)}


@pytest.mark.parametrize("method", COUNTS)
def test_what_a_task_costs(method: str, stage: tuple[Any, Any]) -> None:
    stream, target = stage
    assert build(method, target, stream).costs() == Costs(*COUNTS[method])


def test_a_readout_has_the_outputs_of_the_classes(data: str) -> None:
    config = load([*TINY, data, "learner=ridge", "outputs=100"])
    learner = learner_of(config)
    learner.after_task(0, stream_of(config)[0])
    assert learner.costs() == Costs(17 * 10, 4 * 17 * 10, 0)


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("psp", "strength=1.0", "an option must exist; got 'strength'"),
        ("ewc", "weights_lr=1.0", "an option must exist; got 'weights_lr'"),
        ("ewc", "strength=-1.0", r"strength must be a finite number of 0 or more; got -1\.0"),
        ("ewc", "decay=1.5", r"decay must be a finite number of 0 or more and of 1 at most; got 1\.5"),
    ],
)
def test_an_option_that_is_not_there(method: str, override: str, message: str, data: str) -> None:
    with pytest.raises(UserError, match=rf"\A[^\n]*{message}[^\n]*\Z"):
        learner_of(load([*TINY, data, f"learner={method}", override]))


def test_networks_of_their_own_leave_each_other_alone(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner, alone = build("separate", target, stream), build("dense", target, stream)
    before = state(learner)
    train(learner, stream, 1)
    assert moves(before, state(learner)) == {f"nets.1.{FIRST}", f"nets.1.{LAST}"}
    before = state(learner)
    train(learner, stream, 2)
    assert moves(before, state(learner)) == {f"nets.2.{FIRST}", f"nets.2.{LAST}"}
    train(alone, stream, 2)  # the second task learned is not told from a first
    x, _ = images(stream, 2)
    assert torch.equal(learner(x, 2), alone(x, 2))
