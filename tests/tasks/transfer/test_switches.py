"""Switches as experiments: every config runs, its options are used or refused in one line, a run that was ended goes on."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from neuromod import RefusedError
from tasks.commands.draws import draws
from tasks.config.build import experiment
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report import write as write_report
from tasks.runs.files import read_json
from tests.images import write
from tests.tasks.ended import ended

ALL = [name for name in experiments() if name.startswith("transfer/switch")]
SMALL = ["hidden=[8]", "base_steps=5", "tuned_steps=4", "steps=3", "batch=8", "other=other", "data.name=tiny"]
READS = ["steps=0", "delta=elect", "read=agree"]


def run(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    root = write(tmp_path / "data")
    write(root, "other", classes=7, train=60)
    given = [f"experiment={name}", "device=cpu", "log_every=1", "save_every=2", *SMALL, *more, f"data.root='{root}'"]
    folder = execute(load(given), root=tmp_path / "runs", command=["train"], results=tmp_path)
    return {"folder": folder, **read_json(folder / "result.json")}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run("transfer/switch", tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("name", ALL)
def test_every_config_is_found_and_drawn(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path)
    found = result["measures"]["switches"]
    assert len(found["accuracies"]) == 5
    assert result["value"] == pytest.approx(sum(found["accuracies"].values()) / 5)
    bits = 32.0 if name.endswith("tuned") else 1.6 if name.endswith("ternary") else 1.0
    assert bits <= found["bits_per_weight"] < bits + 0.2
    page = write_report([result["folder"]], tmp_path / "report.html", "transfer", [], draws()).read_text()
    assert "Far tasks" in page


@pytest.mark.parametrize("name", ALL)
def test_every_option_stands_in_the_config_and_in_the_family(name: str) -> None:
    config = load([f"experiment={name}"])["run"]
    assert set(config) - {"_target_"} == set(vars(experiment(config)))


def test_what_is_tuned_before_is_the_same_in_every_arm(usual: dict[str, Any], tmp_path: Path) -> None:
    for more in (["arm=tuned"], READS):
        other = run("transfer/switch", tmp_path, *more)["measures"]["switches"]
        kept = ("base",) if more[0] == "arm=tuned" else ("base", "tuned")
        assert all(other[key] == usual["measures"]["switches"][key] for key in kept)


@pytest.mark.parametrize(
    "changed",
    [
        ["delta=random", "read=null"],
        ["delta=elect"],
        ["delta=ones", "read=sign"],
        ["read=null"],
        ["scale_alone=true"],
        ["strength=0.1"],
        ["arm=mask"],
        ["arm=tuned"],
        ["steps=0"],
        ["own_lr=0.1"],
        ["batch=4"],
        ["hidden=[5]"],
        ["base_steps=9"],
        ["tuned_steps=9"],
        ["optimizer.lr=0.5"],
        ["tuning.lr=0.02"],
    ],
)
def test_an_option_changes_the_weights(changed: list[str], usual: dict[str, Any], tmp_path: Path) -> None:
    other = run("transfer/switch", tmp_path, *changed)
    losses = [
        [json.loads(line).get("loss") for line in (r["folder"] / "metrics.jsonl").read_text().splitlines()]
        for r in (usual, other)
    ]
    assert losses[0] != losses[1] or other["measures"] != usual["measures"]


@pytest.mark.parametrize("ended_at", [1, 4, 9, 14])
def test_a_run_that_was_ended_goes_on_to_the_same(
    ended_at: int, usual: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the base, in a tuning, in the arm."""
    with ended(ended_at, monkeypatch):
        run("transfer/switch", tmp_path)
    resumed = run("transfer/switch", tmp_path)
    assert (resumed["value"], resumed["measures"]) == (usual["value"], usual["measures"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["arm=mask", "delta=ones"], "delta, read, strength and scale_alone are of arm=switch; got arm=mask"),
        (["read=null", "steps=0"], "a switch that is drawn is trained; got read=null and steps=0"),
        (["read=null", "strength=0.2"], "strength is of read=tall and read=ternary; got read=None"),
        (["read=tal"], "read must be one of"),
        (["delta=sums"], "delta must be one of"),
        (["tuned_steps=0"], "tuned_steps must be"),
        (["optimizer._target_=torch.optim.Nothing"], "torch.optim has no 'Nothing'"),
        (["data.scaling=standard"], "got data.scaling=standard; pass data.scaling=unit"),
        (["data.name=null"], "got data.name=null"),
        (["tuning.lr=1e30"], "the loss must stay finite"),
        (["depth=2"], "depth"),
    ],
)
def test_a_wrong_option_is_one_line(wrong: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises((UserError, RefusedError, FloatingPointError), match=re.escape(message)) as refusal:
        run("transfer/switch", tmp_path, *wrong)
    assert "\n" not in str(refusal.value).strip()


def test_every_stage_of_training_is_a_line_of_its_own(usual: dict[str, Any], tmp_path: Path) -> None:
    page = write_report([usual["folder"]], tmp_path / "report.html", "transfer", [], draws()).read_text()
    # The base, five that were tuned to a task, five arms.
    assert re.search(r"Training loss of [^\"]* over its steps, 11 lines", page)
