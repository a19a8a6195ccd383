"""Experiments on reservoirs, small: what each measures, what it refuses, and the report of all of them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.commands.cli import main
from tasks.commands.draws import draws
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report import write as write_report
from tasks.runs.files import read_json

NAMES = [name for name in experiments() if name.startswith("reservoir/")]
DRAWN = [f"reservoir/{name}" for name in ("narma10", "memory", "contexts", "conceptors")]
SMALL = {
    "forecast": ["net.units=30", "train=300", "held_out=60", "test=100", "washout=50"],
    "memory": ["net.units=30", "steps=600", "delays=40", "washout=50"],
    "contexts": ["net.units=30", "train=400", "held_out=80", "test=200", "washout=50", "dwell=25"],
    "conceptors": ["net.units=60", "washout=100", "learn=450", "recall=50"],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A root with a series of the laser's form."""
    rng = np.random.default_rng(0)
    np.save(
        tmp_path / "santafe_laser_A.npy", (100 + 90 * np.sin(np.arange(600)) + rng.integers(0, 9, 600)).astype("u1")
    )
    return tmp_path


def run(name: str, root: Path, *overrides: str, held: int | None = None) -> tuple[Path, dict[str, Any]]:
    given = [f"experiment={name}", f"data.root='{root}'", "device=cpu"]
    family = load(given)["run"]["_target_"].rpartition(".")[2].lower()
    config = load([*given, *SMALL[family], *overrides])
    folder = execute(config, root=root / "runs", command=["train"], results=root, held=held)
    return folder, read_json(folder / "result.json")


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_runs_and_is_drawn(name: str, data: Path) -> None:
    folder, result = run(name, data)
    assert np.isfinite(result["value"])
    again, same = run(name, data)
    assert (again, same["value"]) == (folder, result["value"])
    if name not in DRAWN:
        return
    page = write_report([folder], data / "report.html", "one run", [], draws()).read_text()
    (measure,) = result["measures"]
    headings = {
        "forecast": "Target and output",
        "memory": "Memory",
        "contexts": "one readout",
        "conceptors": "recalled",
    }
    assert headings[measure] in page
    assert page.count("<svg") >= (1 if measure == "memory" else 2)


def test_a_forecast_says_both_errors_and_its_ridge(data: Path) -> None:
    folder, result = run("reservoir/narma10", data)
    found = result["measures"]["forecast"]
    assert found["nrmse"] ** 2 == pytest.approx(found["nmse"])
    assert result["value"] == found["nrmse"]
    assert f"{found['ridge']:g}" == min(found["held_out"], key=lambda r: found["held_out"][r])
    assert result["data"]["stream"] == "NARMA10"
    _, laser = run("reservoir/santa_fe", data)
    assert laser["value"] == laser["measures"]["forecast"]["nmse"]
    assert laser["data"]["name"] == "santafe_laser_A"
    assert len(laser["data"]["sha256"]) == 64
    assert folder.name.startswith("reservoir_narma10") or "narma10" in folder.name


def test_another_file_is_another_run(data: Path) -> None:
    before, _ = run("reservoir/santa_fe", data)
    np.save(data / "santafe_laser_A.npy", np.arange(600) % 200)
    after, _ = run("reservoir/santa_fe", data)
    assert before != after


def test_held_out_steps_stand_in_for_the_test(data: Path) -> None:
    _, whole = run("reservoir/narma10", data)
    _, held = run("reservoir/narma10", data, held=80)
    assert held["value"] != whole["value"]
    # Steps 270 to 350 of the training part are what is asked; 50 + 300 of it were there.
    assert held["measures"]["forecast"]["target"][0] != whole["measures"]["forecast"]["target"][0]
    with pytest.raises(UserError, match="select leaves training steps"):
        run("reservoir/narma10", data, held=250)


def test_contexts_are_told_apart_by_gains(data: Path) -> None:
    errors = {}
    for arm in ("contexts", "contexts_nothing", "contexts_bias"):
        _, result = run(f"reservoir/{arm}", data, "net.units=100", "train=2000", "test=1000")
        errors[arm] = result["value"]
        assert max(result["measures"]["contexts"]["echo"]["distances"].values()) < 1e-10
        assert result["role"] == ("bracket" if arm == "contexts_nothing" else "modulator")
    assert errors["contexts"] < 0.4
    assert errors["contexts_bias"] < 0.4
    assert errors["contexts_nothing"] > 0.55


def test_a_reservoir_that_does_not_forget_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match=r"two starts are .* apart after 650 steps .*, a factor of") as refused:
        run("reservoir/contexts", data, "net.radius=8", "net.input_scale=0.01")
    assert "\n" not in str(refused.value)
    _, told = run("reservoir/contexts", data, "net.radius=8", "net.input_scale=0.01", "otherwise=report")
    assert max(told["measures"]["contexts"]["echo"]["distances"].values()) > 1e-10


def test_memory_is_at_most_the_units(data: Path) -> None:
    _, result = run("reservoir/memory", data)
    curve = result["measures"]["memory"]["curve"]
    assert sum(curve) == pytest.approx(result["value"], abs=0.01)
    assert 5 < result["value"] < 30
    assert curve[0] > 0.99


def test_patterns_are_recalled_by_their_conceptors(data: Path) -> None:
    _, result = run("reservoir/conceptors", data, "net.units=100", "washout=300", "learn=700", "recall=100", "seed=100")
    found = result["measures"]["conceptors"]
    assert result["value"] == sum(error > 0.1 for error in found["full"]["nrmse"])
    assert result["value"] <= 1
    assert found["without"]["mean"] > 1
    assert all(0 <= value <= 1 for values in found["singular"] for value in values)
    assert found["quotas"][0] > found["quotas"][2]


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("narma10", ["held_out=2000", "train=2000"], "held-out steps are some"),
        ("narma10", ["ridges=[-1]"], r"ridges\[0\] must be a finite number of 0 or more"),
        ("narma10", ["net.form=rng"], "form of a reservoir"),
        ("narma10", ["net.unit=5"], "units"),
        ("narma10", ["series._target_=tasks.reservoir.base.Net"], "draws a Reservoir"),
        ("contexts", ["held_out=0"], "held-out steps are some"),
        ("conceptors", ["learn=300"], "compared at 400 shifts"),
        ("conceptors", ["net.leak=0.5"], "without leak"),
        ("memory", ["washout=7000", "delays=900", "steps=7001"], "pass a longer series"),
    ],
)
def test_a_mistake_gets_one_line(
    name: str, overrides: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", f"experiment=reservoir/{name}", "device=cpu", *overrides, "--root", str(tmp_path)]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert re.search(words, said), said
    assert len(said.strip().splitlines()) == 1


def test_the_laser_without_its_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["train", "experiment=reservoir/santa_fe", f"data.root={tmp_path}", "device=cpu", "--root", str(tmp_path)]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert "has no santafe_laser_A.npy" in said
    assert len(said.strip().splitlines()) == 1
