"""Experiments whose wires move: what a run says, that a killed one ends alike, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.commands.cli import main
from tasks.config.load import load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report.read import load as read_run
from tasks.runs.loop import loop
from tasks.sparse import wires
from tests.tasks.setup import bench_of, learner_of, stream_of

TINY = [
    "data=tiny",
    "target.kwargs.hidden=[16, 12]",
    "device=cpu",
    "steps=24",
    "batch=16",
    "log_every=4",
    "save_every=5",
]
COPY = ["experiment=sparse/digits", *TINY, "rule.every=4", "density=0.2"]
GROWTH = [
    "experiment=growth/digits",
    *TINY,
    "rule.every=4",
    "stream.tasks=2",
    "density=0.1",
    "modulators.wires.kind.density=0.1",
]
MOVING = ["experiment=growth/equal_moving", *TINY, "rule.every=4", "stream.tasks=2"]
FORMS = {"copy": COPY, "growth": GROWTH, "moving masks": MOVING}


def run(root: Path, data: str, *overrides: str) -> Path:
    return execute(load([*overrides, data]), root=root, command=["train"], results=root)


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_was_ended_goes_on_to_the_same_bytes(
    form: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", data, *FORMS[form])
    calls = 0

    def ended(step: Any, *args: Any, **options: Any) -> None:
        def counted(number: int) -> Any:
            nonlocal calls
            calls += 1
            if calls == 14:
                raise KeyboardInterrupt
            return step(number)

        loop(counted, *args, **options)

    monkeypatch.setattr("tasks.continual.sequence.loop", ended)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "ended", data, *FORMS[form])
    monkeypatch.undo()
    again = run(tmp_path / "ended", data, *FORMS[form])
    one, other = ((folder / "checkpoint.safetensors").read_bytes() for folder in (whole, again))
    assert one == other


def test_a_sparse_copy_has_its_density_and_its_wires_are_measured(data: str, tmp_path: Path) -> None:
    folder = run(tmp_path, data, *COPY)
    found = read_run(folder).measure("wires")
    places = sum(found["places"].values())
    assert found["total"] == sum(found["wires"].values())
    assert found["density"] == pytest.approx(0.2, abs=0.02)
    assert found["nonzero"] <= found["total"]
    assert found["bytes"] == 8 * found["total"]
    assert sum(found["ages"]) == found["total"]
    assert sum(map(sum, found["pixels"])) == found["wires"]["1.weight"]
    costs = read_run(folder).result["costs"]
    assert costs["parameters_shared"] < places
    sections = wires.draw([read_run(folder)], ["RigL"])
    assert [section.key for section in sections] == ["wires"]
    assert len(sections[0].panels) == 2


def test_every_task_has_wires_of_its_own(data: str) -> None:
    learner = learner_of(load([*GROWTH, data]))
    first, second = (learner.wirings[task].wires["1.weight"] for task in (0, 1))
    assert int(first.sum()) == int(second.sum())
    assert not torch.equal(first, second)
    before = {key: value.clone() for key, value in learner.model.named_modulators()["wires"].source.own(1).items()}
    config = load([*GROWTH, data])
    x = stream_of(config)[0].view(stream_of(config)[0].train.images[:8])
    optimizer = torch.optim.Adam(learner.parameters())
    learner.train()
    learner(x, 0).sum().backward()
    learner.before_step(0, optimizer)
    optimizer.step()
    learner.after_step(0, optimizer)
    for key, value in learner.model.named_modulators()["wires"].source.own(1).items():
        assert torch.equal(value, before[key])
    assert learner.wirings[0].done == 1
    assert learner.wirings[1].done == 0


def test_a_cut_is_made_before_training_and_may_be_shuffled(data: str) -> None:
    options = [*COPY, data, "rule.name=snip"]
    cut, shuffled = (learner_of(load([*options, f"shuffled={flag}"])).wirings[None] for flag in ("false", "true"))
    assert cut.counts() == shuffled.counts()
    assert sum(cut.counts().values()) == sum(cut.target_counts.values())
    assert not torch.equal(cut.wires["1.weight"], shuffled.wires["1.weight"])
    flow = learner_of(load([*COPY, data, "rule={name: synflow, rounds: 3}"])).wirings[None]
    assert sum(flow.counts().values()) == sum(flow.target_counts.values())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rule.name=rigel"], "a rule must be one of"),
        (["wired=masks"], "wired names a modulator by its kind; got 'masks'; it has generated, generated_2"),
        (["shuffled=true"], "wires that were cut once can be shuffled; got rule.cut='drawn'; drop shuffled=true"),
        (["rule={name: rigl, until: 2.0}"], "until, the share of the steps in which wires move"),
        (["density=0.0"], "density, the share of places that have a wire"),
        (["scope=erg"], "scope must be one of"),
    ],
)
def test_refused_options(overrides: list[str], words: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *COPY, data, *overrides]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_batch_that_mixes_tasks_is_refused(data: str) -> None:
    config = load([*GROWTH, data])
    learner = learner_of(config)
    x = stream_of(config)[0].view(stream_of(config)[0].train.images[:4])
    with pytest.raises(UserError, match="moves the wires of one task at a time; got a batch that mixes tasks"):
        learner.train()(x, torch.tensor([0, 1, 0, 1]))
    assert learner.eval()(x, torch.tensor([0, 1, 0, 1])).shape[0] == 4
    assert bench_of(config).config["run"]["steps"] == 24
