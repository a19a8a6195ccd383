"""Many runs by one command: what is run, where a mistake is told, what a config lists."""

from pathlib import Path

import pytest

from tasks.commands.cli import main
from tasks.commands.sweep import expand, swept
from tasks.config.files import CONFIGS
from tasks.config.load import load
from tasks.errors import UserError
from tests.images import write
from tests.tasks.setup import SMALL


def test_every_combination_is_run_once_and_the_last_changes_fastest() -> None:
    points = expand(["experiment=demo/film", "optimizer.lr=0.1,0.3", "seed=0,1"])
    assert points == [
        ["experiment=demo/film", f"optimizer.lr={rate}", f"seed={seed}"] for rate in ("0.1", "0.3") for seed in (0, 1)
    ]
    assert expand(["seed=range(3)"]) == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert expand(["target.kwargs.hidden=[4,3]"]) == [["target.kwargs.hidden=[4,3]"]]
    with pytest.raises(UserError, match="readable"):
        expand(["seed=[1"])


def test_a_config_lists_what_it_sweeps_and_an_override_narrows_it() -> None:
    config = load(["experiment=matrix"])
    cells = sorted(p.stem for p in (CONFIGS / "experiment/matrix").glob("*.yaml") if p.stem != "base")
    assert sorted(config["sweep"]["experiment"]) == [f"matrix/{name}" for name in cells]
    points = expand(swept(config, ["experiment=matrix", "seed=5"]))
    assert len(points) == 8 * 2
    assert all("seed=5" in point for point in points)
    assert {part for point in points for part in point if part.startswith("stream=")} == {
        "stream=permuted",
        "stream=split",
    }


def test_runs_of_a_sweep_end_in_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "data", "mnist")
    given = ["experiment=demo/film", *SMALL, f"data.root='{root}'", "seed=0,1"]
    assert main(["train", "-m", "-j", "2", *given, "--root", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert out.count("accuracy") == 2
    assert (tmp_path / "runs" / "report.html").exists()
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 2


def test_a_mistake_in_the_last_run_is_told_before_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "experiment=demo/film", "stream=permuted,spilt", "--root", str(tmp_path)]) == 2
    assert "nearest: 'split'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_overrides_stand_on_both_sides_of_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "experiment=demo/film", "--root", str(tmp_path), "stream=spilt"]) == 2
    assert "nearest: 'split'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "experiment=demo/film", "--root", str(tmp_path), "--job", "2", "--colour", "red"])
    assert "unknown arguments: --colour red" in capsys.readouterr().err
