"""The command line: a user's mistake is one line and status 2; rows and choices are written by runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.commands.cli import main
from tasks.config.files import options
from tasks.config.load import experiments
from tasks.runs.files import read_json, write_json
from tests.images import write

ROOT = Path(__file__).parents[3]
TINY = ["experiment=demo/base", "data=tiny", "target=lenet_300_100", "target.kwargs.hidden=[8]", "device=cpu"]
TINY += ["stream.tasks=2", "outputs=10", "batch=8", "steps=3", "optimizer.lr=0.01"]
Refusal = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"data.root='{write(tmp_path / 'data')}'"


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Run a command that a user got wrong; returns its one line."""

    def run(*arguments: str) -> str:
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0]

    return run


def holds(line: str, *parts: str) -> None:
    for part in parts:
        assert part in line


# ---- mistakes ----------------------------------------------------------------------------------------------------------


def test_a_mistyped_experiment_or_option(refusal: Refusal) -> None:
    holds(refusal("train", "experiment=demo/supermsk"), "'demo/supermsk'", "'demo/supermask'")
    holds(refusal("train", *TINY, "optimizer.lrr=1"), "'optimizer.lrr'", "'optimizer.lr'")
    holds(refusal("train", *TINY, "target=resnet02"), "'resnet02'", "'resnet20'")
    holds(refusal("train", "steps"), "key=value", "'steps'")
    holds(refusal("select", "experiment=demo/supermsk"), "'demo/supermask'")


def test_a_gpu_that_is_not_there(refusal: Refusal, data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refusal("train", *TINY, data, "device=cuda", "--root", str(tmp_path / "runs"))
    holds(line, "device=cuda", "got none", "device=cpu")
    assert not (tmp_path / "runs").exists()


def test_a_data_set_that_is_not_there(refusal: Refusal, data: str, tmp_path: Path) -> None:
    holds(refusal("train", *TINY, data, "data=tinny", "--root", str(tmp_path)), "'tinny'", "nearest names", "'tiny'")


def test_a_network_that_is_not_there(refusal: Refusal, data: str, tmp_path: Path) -> None:
    given = [o for o in TINY if not o.startswith("target")]
    line = refusal("train", *given, data, "target=nowhere:net", "--root", str(tmp_path))
    holds(line, "target.constructor", "'nowhere:net'", "package.module.name")


def test_an_unknown_method_of_inference_is_told_before_training(refusal: Refusal, data: str, tmp_path: Path) -> None:
    line = refusal("train", *TINY, data, "inference.methods=[one_shott]", "--root", str(tmp_path / "runs"))
    holds(line, "'one_shott'", "'one_shot'")
    assert not list((tmp_path / "runs").glob("*/metrics.jsonl"))


def test_an_unknown_row(refusal: Refusal, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results", tmp_path / "results")
    there = ["--root", str(tmp_path), "--results", str(tmp_path / "results")]
    line = refusal("ledger", "--run", "supsup-acuracy-known", *there)
    holds(line, "'supsup-acuracy-known'", "'supsup-accuracy-known'")
    holds(refusal("reproduce", "nothing-like-it", *there), "'nothing-like-it'", "nearest")


def test_a_report_of_what_is_not_finished(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    write_json(tmp_path / "begun/config.json", {})
    write_json(tmp_path / "begun/environment.json", {})
    line = refusal("report", str(tmp_path / "begun"), "--out", str(tmp_path / "report.html"))
    holds(line, "'begun'", "result.json", "finish the run")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["report"], ["ledger", "--chekc"]])
def test_a_command_that_does_not_parse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m tasks" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.commands.train.execute", interrupt)
    assert main(["train", *TINY]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err


# ---- commands ----------------------------------------------------------------------------------------------------------


def test_list_says_what_each_experiment_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in experiments():
        assert f"\n{name}: " in f"\n{shown}"
    assert "\ndemo/base" not in shown  # a base is not listed
    for group in ("run", "target", "modulator", "stream", "optimizer", "learner"):
        assert f"\n{group}: " in shown
        assert all(name in shown for name in options(group))
    assert main(["list", "Oswald", "split"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] != " "] == [
        "hypernet/split_mnist: generated weights, SplitMNIST"
    ]


def test_train_tells_the_result_and_the_folder(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*TINY, data, "title=mine", "inference={methods:[brute_force],images:4,group:2}"]
    assert main(["train", *given, "--root", str(tmp_path / "runs")]) == 0
    first, second, pictures, folder = capsys.readouterr().out.splitlines()
    drawn = Path(folder) / "plots" / "report.html"
    assert pictures == f"pictures: {drawn}"
    assert "<svg" in drawn.read_text()
    result = read_json(Path(folder) / "result.json")
    assert first == f"mine: accuracy {100 * result['value']:.2f} %, forgetting 0.00 %"
    assert second.startswith("task inference by brute_force: ")
    assert read_json(Path(folder) / "environment.json")["command"] == ["python", "-m", "tasks", "train", *given]
    page = tmp_path / "page.html"
    assert main(["report", folder, "--out", str(page), "--title", "a title"]) == 0
    assert "a title" in page.read_text()
    assert capsys.readouterr().out.strip() == str(page)


def test_what_a_kind_refuses_is_one_line(refusal: Refusal, data: str, tmp_path: Path) -> None:
    mask = ["modulator=topk_table", "modulators.topk.kind.density=1.5"]
    line = refusal("train", *TINY, data, *mask, "--root", str(tmp_path))
    holds(line, "density must be in (0, 1]; got 1.5; pass the share of weights to keep")
