"""A family that is not the project's: the worked example of CONTRIBUTING, and one of everything that a path may name."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.commands.cli import main
from tasks.config.load import load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.runs.files import read_json

ROOT = Path(__file__).parents[2]
OWN = '''
from dataclasses import dataclass

from neuromod.inference.predictors import Signature
from tasks.continual import Sequence
from tasks.continual.learners import Dense
from tasks.experiment import Result
from tasks.report.panels import Panel, Section


class Learner(Dense):
    """Every weight trained, its gradient clipped by its own hand."""

    def __init__(self, target, stream, bench, *, clip=1.0):
        super().__init__(target, stream, bench)
        self.clip, self.steps = clip, []

    def before_step(self, step, optimizer):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad.clamp_(-self.clip, self.clip)

    def after_step(self, step, optimizer):
        self.steps.append(step)


def measure(learner, stream, bench, *, power=1):
    return {"steps": len(learner.steps) ** power, "accuracy": bench.measured["matrix"]["average_accuracy"]}


def draw(runs, names):
    shown = [name for run, name in zip(runs, names) if run.measure("own")]
    return [Section("own", "A drawing of one's own", "It says little.", tuple(Panel(n, "", "<svg></svg>") for n in shown))]


def warm(done):
    return min(1.0, 2 * done + 0.1)


def flipped(images, rng):
    return images.flip(-1)


class Backwards(Sequence):
    """The tasks from the last to the first."""

    def rounds(self, stream):
        return [[task] for task in reversed(range(len(stream)))]


@dataclass(frozen=True)
class Counting:
    """A loop of its own hand: it counts."""

    to: int = 3

    def fingerprint(self, bench):
        return "none"

    def execute(self, bench):
        for number in range(self.to):
            bench.run.log(step=number + 1, phase="train", loss=1.0 / (number + 1))
        return Result("count", float(self.to), "higher")


class Nearest(Signature):
    """A predictor of its own, no better than the signature."""
'''


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package outside of the project, with the family and the config of CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## A new family of experiments") :]
    (code,), (config,) = (
        re.findall(rf"```{kind}\n(.*?)```", section.split("\n## ")[0], re.S) for kind in ("python", "yaml")
    )
    assert len(code.splitlines()) < 100
    (tmp_path / "rigl").mkdir()
    (tmp_path / "rigl/__init__.py").write_text(code)
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "configs/experiment").mkdir(parents=True)
    (tmp_path / "configs/experiment/rigl.yaml").write_text(config)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NEUROMOD_DATA", raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    return tmp_path


def asked(scratch: Path, *overrides: str) -> list[str]:
    return [
        f"configs={scratch / 'configs'}",
        "experiment=rigl",
        "steps=60",
        "log_every=10",
        "save_every=15",
        *overrides,
    ]


def test_it_trains_is_killed_and_goes_on_bit_for_bit(scratch: Path, tmp_path: Path) -> None:
    whole = execute(load(asked(scratch)), root=tmp_path / "whole", command=[])
    command = [sys.executable, "-m", "tasks", "train", *asked(scratch), "--root", str(tmp_path / "killed")]
    started = subprocess.Popen(command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "killed" / whole.name
    while started.poll() is None and not (folder / "checkpoint.safetensors").exists():
        time.sleep(0.001)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not (folder / "result.json").exists()
    assert execute(load(asked(scratch)), root=tmp_path / "killed", command=[]) == folder
    assert (folder / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    one, other = (read_json(f / "result.json") | {"seconds": 0} for f in (whole, folder))
    assert one == other
    assert one["costs"]["parameters_per_task"] == sum(round(0.1 * n) for n in (784 * 300, 300 * 100, 100 * 10))


def test_a_mistyped_option_is_refused_with_the_nearest(scratch: Path) -> None:
    with pytest.raises(UserError, match="got 'densty'; nearest: 'density'"):
        load(asked(scratch, "densty=0.3"))
    with pytest.raises(UserError, match="run has no option 'densty'; nearest: 'density'"):
        load(["run=rigl.RigL", "network={_target_: tasks.networks.mlp}", "run={densty: 1}"])


def test_its_picture_is_in_the_report(scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *asked(scratch), "--root", str(tmp_path / "runs")]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert "Where wires grow" in (folder / "plots/report.html").read_text()


def test_everything_that_a_path_names_may_be_the_users_own(scratch: Path, tmp_path: Path) -> None:
    given = [
        "experiment=demo/dense",
        "learner._target_=mine.Learner",
        "clip=0.5",
        "schedule=mine.warm",
        "augment=mine.flipped",
    ]
    given += ["measures.own={_target_: mine.measure, power: 2}", "steps=5", "stream.tasks=2", "log_every=1"]
    folder = execute(load(given), root=tmp_path, command=[])
    result = read_json(folder / "result.json")
    assert result["measures"]["own"] == {"steps": 100, "accuracy": result["value"]}
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["step"] == 1
    with pytest.raises(UserError, match=r"measures\.own has no option 'powr'; nearest: 'power'"):
        load([*given[:-4], "measures.own={_target_: mine.measure, powr: 2}"])


def test_a_loop_of_ones_own_and_a_predictor(scratch: Path, tmp_path: Path) -> None:
    counted = read_json(execute(load(["run=mine.Counting", "to=4"]), root=tmp_path, command=[]) / "result.json")
    assert (counted["metric"], counted["value"], counted["title"]) == ("count", 4.0, "mine.Counting")
    given = ["experiment=demo/supermask", "run._target_=mine.Backwards", "steps=2", "stream.tasks=2", "batch=8"]
    asked = "inference.methods=[mine.Nearest,predictor_signature,one_shot]"
    folder = execute(load([*given, asked, "inference.images=20"]), root=tmp_path, command=[])
    found = read_json(folder / "result.json")["measures"]["inference"]
    assert found["mine.Nearest"]["image"] == found["predictor_signature"]["image"]
    tasks = [json.loads(line).get("task") for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [task for task in tasks if task is not None] == [1, 0]
    with pytest.raises(UserError, match="mine has no 'Nearst'; nearest: 'Nearest'"):
        load([*given, "inference.methods=[mine.Nearst]"])


def test_its_row_stands_in_a_ledger_of_its_own(
    scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    (results / "rigl").mkdir(parents=True)
    overrides = json.dumps([f"configs={scratch / 'configs'}", "steps=20", "density=0.2"])
    (results / "rigl/bars.yaml").write_text(
        "seeds: [0, 1, 2]\nrows:\n  rigl-digits:\n    title: RigL on the digits\n    metric: accuracy\n"
        f"    overrides: {overrides}\n    bar: {{op: '>=', value: 0.2}}\n"
    )
    there = ["--results", str(results), "--root", str(tmp_path / "runs")]
    assert main(["ledger", "--run", "rigl-digits", *there]) == 0
    assert "rigl-digits: " in capsys.readouterr().out
    assert "held" in (results / "rigl/README.md").read_text()
    assert len(read_json(results / "rigl/ledger.json")["rows"]) == 1
