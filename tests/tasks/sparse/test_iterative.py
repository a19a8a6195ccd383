"""Iterative pruning: alive counts, arms that differ in the last round alone, a killed run, a drawing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.config.build import experiment
from tasks.config.load import load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report.read import load as read_run
from tasks.runs.loop import loop
from tasks.sparse import IterativePruning
from tests.tasks.setup import bench_of, state_of

IMP = ["experiment=sparse/imp", "data=tiny", "target.kwargs.hidden=[16, 12]", "device=cpu", "steps=10", "batch=16"]
IMP += ["rounds=3", "early=4", "log_every=4", "save_every=3", "cut=0.3"]


def run(root: Path, data: str, *overrides: str) -> Path:
    return execute(load([*IMP, data, *overrides]), root=root, command=["train"], results=root)


def found(folder: Path) -> dict[str, list[float]]:
    return dict(read_run(folder).measure("iterative"))


def alive(sizes: list[int], rounds: int) -> list[float]:
    """k <- k - round(p k), the last layer half as much."""
    left, total, said = list(sizes), sum(sizes), [1.0]
    for _ in range(rounds):
        left = [k - round(p * k) for k, p in zip(left, (0.3, 0.3, 0.15), strict=True)]
        said.append(sum(left) / total)
    return said


def test_alive_counts_and_arms(data: str, tmp_path: Path) -> None:
    arms = {arm: run(tmp_path, data, f"arm={arm}") for arm in ("ticket", "reinitialised", "shuffled", "random")}
    ticket = found(arms["ticket"])
    masks = {arm: state_of(folder)["pruned"]["wiring"]["wires"] for arm, folder in arms.items()}
    sizes = [len(state_of(arms["ticket"])["pruned"]["back"][name].flatten()) for name in back_names(arms["ticket"])]
    assert ticket["alive"] == pytest.approx(alive(sizes, 3))
    for arm, folder in arms.items():
        said = found(folder)
        assert len(said["accuracy"]) == len(said["early"]) == 4
        assert {key: values[:-1] for key, values in said.items()} == {key: v[:-1] for key, v in ticket.items()}
        assert said["alive"][-1] == pytest.approx(ticket["alive"][-1], abs=0.01)
        same = all(torch.equal(masks[arm][name], bits) for name, bits in masks["ticket"].items())
        assert same == (arm in ("ticket", "reinitialised"))
    sections = IterativePruning.draw([read_run(folder) for folder in arms.values()], list(arms))
    assert [len(section.panels) for section in sections] == [2]


def back_names(folder: Path) -> list[str]:
    back = state_of(folder)["pruned"]["back"]
    return [name for name, value in back.items() if value.ndim == 2]


@pytest.mark.parametrize("rewind", [0, 4])
def test_survivors_go_back_to_step_k_of_the_first_round(rewind: int, data: str, tmp_path: Path) -> None:
    folder = run(tmp_path, data, f"rewind={rewind}")
    back = state_of(folder)["pruned"]["back"]
    config = load([*IMP, data, f"rewind={rewind}"])
    start = experiment(config["run"]).network(bench_of(config)).tensors()
    values = list(back.values())
    same = all(any(torch.equal(value, weight) for value in values) for weight in start.values())
    assert same == (rewind == 0)


def test_a_run_that_was_ended_goes_on_to_the_same_bytes(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = run(tmp_path / "whole", data, "arm=random"), 0

    def ended(step: Any, *args: Any, **options: Any) -> None:
        def counted(number: int) -> Any:
            nonlocal calls
            calls += 1
            if calls == 35:
                raise KeyboardInterrupt
            return step(number)

        loop(counted, *args, **options)

    monkeypatch.setattr("tasks.sparse.iterative.loop", ended)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "ended", data, "arm=random")
    monkeypatch.undo()
    again = run(tmp_path / "ended", data, "arm=random")
    one, other = ((folder / "checkpoint.safetensors").read_bytes() for folder in (whole, again))
    assert one == other


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["early=11"], "early is a step of a round; got early=11 of 10 steps; lower it"),
        (["rewind=11"], "rewind is a step of a round"),
        (["stream.tasks=2"], "weights are pruned for one task; got 2; pass stream.tasks=1"),
        (["arm=tickets"], "run.arm must be one of ticket, reinitialised, shuffled, random"),
        (["cut=1.0"], "run.cut must be a finite number of 0 or more and below 1"),
    ],
)
def test_refused_options(overrides: list[str], words: str, data: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        run(tmp_path, data, *overrides)
