"""Decoders as experiments: every config runs, options are used or refused in one line, an ended run goes on, old tasks stand still."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import Modulator, RefusedError, Table
from tasks.commands.draws import draws
from tasks.config.build import experiment
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.generator import adapted
from tasks.report import write as write_report
from tasks.runs.files import read_json
from tests.images import write
from tests.tasks.ended import ended

ALL = [name for name in experiments() if name.startswith("generator/decoder")]
SMALL = [
    "width=4",
    "latent=3",
    "base_images=20",
    "images=6",
    "tested=3",
    "batch=4",
    "base_steps=4",
    "steps=3",
    "test_steps=2",
]
SMALL += ["data=tiny", "data.halve=false", "known=7"]


def run(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    root = write(tmp_path / "data")
    given = [f"experiment=generator/{name}", "device=cpu", "log_every=1", "save_every=2", *SMALL, *more]
    folder = execute(load([*given, f"data.root='{root}'"]), root=tmp_path / "runs", command=["train"], results=tmp_path)
    return {"folder": folder, **read_json(folder / "result.json")}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run("decoder_film", tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("name", ALL)
def test_every_config_is_found_and_drawn(name: str, tmp_path: Path) -> None:
    random = ["base_steps=0"] if name.endswith("random") else []
    result = run(name.removeprefix("generator/"), tmp_path, *random)
    found = result["measures"]["decoder"]
    assert list(found["errors"]) == ["7", "8", "9"]
    assert result["value"] == pytest.approx(sum(found["errors"].values()) / 3)
    assert found["start"] <= 1e-6
    assert found["moved"] == 0
    page = write_report([result["folder"]], tmp_path / "report.html", "decoders", [], draws()).read_text()
    assert "Test images, decoded" in page
    assert "Samples of each task" in page


@pytest.mark.parametrize("name", ALL)
def test_every_option_stands_in_the_config_and_in_the_family(name: str) -> None:
    config = load([f"experiment={name}"])["run"]
    assert set(config) - {"_target_"} == set(vars(experiment(config)))


def test_what_a_task_has_for_itself_is_counted(usual: dict[str, Any], tmp_path: Path) -> None:
    norms, kernels, dense = 2 * 4, 4 * 4 + 4, 4 * 4 * 4
    assert usual["costs"]["parameters_per_task"] == 2 * norms
    adafm = run("decoder_adafm", tmp_path)["costs"]["parameters_per_task"]
    assert adafm == 2 * (kernels + dense) + norms + 1
    whole = run("decoder_whole", tmp_path)["costs"]
    assert whole["parameters_per_task"] == whole["parameters_shared"]


def test_a_task_that_moves_another_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for all tasks: each task moves all those before it, and not the known classes."""

    class Shared(Table):
        def __init__(self, tasks: int) -> None:
            super().__init__(1)

        def add(self, task: int, starts: Any, options: Any) -> Any:
            if task == 0:
                return super().add(task, starts, options)
            self.rows[str(task)] = self.rows["0"]
            return []

    made = adapted._modulator

    def shared(arm: str, target: Any, seed: int) -> Modulator:
        known = made(arm, target, seed)
        source = Shared(0)
        source.initial = ()
        return Modulator(known.kind, source, known.sites, seed=seed)

    monkeypatch.setattr(adapted, "_modulator", shared)
    assert run("decoder_film", tmp_path, "save_every=1000")["measures"]["decoder"]["moved"] == 1 + 2


@pytest.mark.parametrize(
    "changed",
    [
        ["arm=adafm"],
        ["known=6"],
        ["latent=4"],
        ["width=5"],
        ["blocks=2"],
        ["base_images=19"],
        ["base_steps=5"],
        ["images=5"],
        ["steps=4"],
        ["tested=4"],
        ["test_steps=3"],
        ["latent_lr=0.1"],
        ["batch=3"],
        ["loss=l1"],
        ["spread=0.1"],
        ["optimizer.lr=0.5"],
        ["base.lr=0.5"],
    ],
)
def test_an_option_changes_what_is_found(changed: list[str], usual: dict[str, Any], tmp_path: Path) -> None:
    assert (
        run("decoder_film", tmp_path, *changed)["measures"]["decoder"]["errors"]
        != usual["measures"]["decoder"]["errors"]
    )


@pytest.mark.parametrize("ended_at", [1, 3, 5, 8])
def test_a_run_that_was_ended_goes_on_to_the_same(
    ended_at: int, usual: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the base, in a task, in a test."""
    with ended(ended_at, monkeypatch):
        run("decoder_film", tmp_path)
    resumed = run("decoder_film", tmp_path)
    assert (resumed["value"], resumed["measures"]) == (usual["value"], usual["measures"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["known=10"], "known leaves a class to learn; got known=10 of 10"),
        (["images=60"], "a task needs 60 train images; class 7 has 8"),
        (["tested=60"], "a task needs 60 test images; class 7 has 4"),
        (["arm=fil"], "arm must be one of"),
        (["latent=0"], "latent must be"),
        (["data.scaling=standard"], "got data.scaling=standard; pass data.scaling=unit"),
        (["data.name=null"], "got data.name=null"),
        (["data.side=7"], "a generator makes images of even sides; got (1, 7, 7)"),
        (["optimizer._target_=torch.optim.Nothing"], "torch.optim has no 'Nothing'"),
        (["base.lr=1e30"], "the loss must stay finite"),
        (["depth=2"], "depth"),
    ],
)
def test_a_wrong_option_is_one_line(wrong: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises((UserError, RefusedError, FloatingPointError), match=re.escape(message)) as refusal:
        run("decoder_film", tmp_path, *wrong)
    assert "\n" not in str(refusal.value).strip()


def test_choices_are_made_on_training_images(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    config = load(["experiment=generator/decoder_film", *SMALL, "tested=1", "images=2", f"data.root='{root}'"])
    folder = execute(config, root=tmp_path / "runs", command=[], held=40, results=tmp_path)
    assert read_json(folder / "result.json")["value"] > 0
    with pytest.raises(UserError, match="held_out must leave images to train on; got 80 of 80"):
        execute(config, root=tmp_path / "runs", command=[], held=80, results=tmp_path)


def test_latents_of_the_same_image_agree_whatever_came_before(usual: dict[str, Any]) -> None:
    pictures = usual["measures"]["decoded"]
    assert torch.tensor(pictures["made"]).shape == torch.tensor(pictures["images"]).shape == (3, 3, 8, 8)
    assert torch.tensor(pictures["ways"]).shape == (2, adapted.WAY, 8, 8)
