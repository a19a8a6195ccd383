"""Far tasks by one kind of modulation: every config runs, its bytes are those of its title, a run that was ended goes on."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.draws import draws
from tasks.config.build import experiment
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report import write as write_report
from tasks.runs.files import read_json
from tests.images import write
from tests.tasks.ended import ended

ALL = [name for name in experiments() if name.startswith("bytes/")]
SMALL = ["hidden=[8,8]", "base_steps=5", "steps=3", "batch=8", "other=other", "data.name=tiny"]
UNITS = {"B": 1.0, "kB": 1e3, "MB": 1e6}


def run(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    root = write(tmp_path / "data")
    write(root, "other", classes=7, train=60)
    given = [f"experiment={name}", "device=cpu", "log_every=1", "save_every=2", *SMALL, *more, f"data.root='{root}'"]
    folder = execute(load(given), root=tmp_path / "runs", command=["train"], results=tmp_path)
    return {"folder": folder, **read_json(folder / "result.json")}


@pytest.mark.parametrize("name", ALL)
def test_every_config_runs_and_is_drawn(name: str, tmp_path: Path) -> None:
    config = load([f"experiment={name}"])["run"]
    assert set(config) - {"_target_"} == set(vars(experiment(config)))
    result = run(name, tmp_path)
    found = result["measures"]["modulations"]
    assert result["value"] == pytest.approx(sum(found["accuracies"].values()) / 5)
    assert len(found["untouched"]) == 5
    page = write_report([result["folder"]], tmp_path / "report.html", "bytes", [], draws()).read_text()
    assert "of the frozen network (line)" in page


@pytest.mark.parametrize("name", ALL)
def test_the_title_says_the_bytes_of_a_task(name: str, tmp_path: Path) -> None:
    config = load([f"experiment={name}"])
    said = re.match(r"([\d.]+) (k?M?B): ", config["title"])
    assert said is not None
    root = write(tmp_path / "data", "tiny", side=28)
    write(root, "other", classes=10, side=28)
    few = ["base_steps=0", "steps=0", "other=other", "data.name=tiny", f"data.root='{root}'", "device=cpu"]
    folder = execute(load([f"experiment={name}", *few]), root=tmp_path, command=["train"], results=tmp_path)
    bytes_ = read_json(folder / "result.json")["costs"]["bytes_per_task"]
    digits = 10.0 ** -len(said[1].partition(".")[2])
    assert bytes_ / UNITS[said[2]] == pytest.approx(float(said[1]), abs=0.51 * digits)


def test_the_network_is_the_same_under_every_kind(tmp_path: Path) -> None:
    found = [run(name, tmp_path)["measures"]["modulations"] for name in ("bytes/film", "bytes/masks", "bytes/switch")]
    assert all(one["base"] == found[0]["base"] and one["untouched"] == found[0]["untouched"] for one in found)


def test_a_run_that_was_ended_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("bytes/masks_bernoulli", tmp_path)
    for at in (2, 5):
        with ended(at, monkeypatch):
            run("bytes/masks_bernoulli", tmp_path / str(at))
        again = run("bytes/masks_bernoulli", tmp_path / str(at))
        assert again["measures"] == whole["measures"]
        lines = [
            [json.loads(line)["loss"] for line in (one["folder"] / "metrics.jsonl").read_text().splitlines()]
            for one in (again, whole)
        ]
        assert lines[0] == lines[1]


def test_what_all_tasks_share_is_refused(tmp_path: Path) -> None:
    shared = "modulators.affine.source={_target_: neuromod.LowRank, rank: 2, tasks: 1}"
    with pytest.raises(UserError, match="these modulators share some; take sources like Table and Subspace"):
        run("bytes/film", tmp_path, shared)
