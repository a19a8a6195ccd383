"""The command line: a user's mistake is one line and status 2; rows and choices are written by runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.commands import cli, rows
from tasks.commands.cli import main
from tasks.config.load import experiments, load, options
from tasks.ledger import selection
from tasks.runs.files import read_json, write_json
from tests.images import write

ROOT = Path(__file__).parents[2]
TINY = ["experiment=demo/base", "data=tiny", "target=lenet_300_100", "target.kwargs.hidden=[8]", "device=cpu"]
TINY += ["stream.tasks=2", "outputs=10", "batch=8", "steps=3", "optimizer.lr=0.01"]
Told = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"data.root='{write(tmp_path / 'data')}'"


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
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


def test_a_mistyped_experiment_or_option(told: Told) -> None:
    holds(told("train", "experiment=demo/supermsk"), "'demo/supermsk'", "'demo/supermask'")
    holds(told("train", *TINY, "optimizer.lrr=1"), "'optimizer.lrr'", "'optimizer.lr'")
    holds(told("train", *TINY, "target=resnet02"), "'resnet02'", "'resnet20'")
    holds(told("train", "steps"), "key=value", "'steps'")
    holds(told("select", "experiment=demo/supermsk"), "'demo/supermask'")


def test_a_gpu_that_is_not_there(told: Told, data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = told("train", *TINY, data, "device=cuda", "--root", str(tmp_path / "runs"))
    holds(line, "device=cuda", "got none", "device=cpu")
    assert not (tmp_path / "runs").exists()


def test_a_data_set_that_is_not_there(told: Told, data: str, tmp_path: Path) -> None:
    holds(told("train", *TINY, data, "data=tinny", "--root", str(tmp_path)), "'tinny'", "nearest names", "'tiny'")


def test_a_network_that_is_not_there(told: Told, data: str, tmp_path: Path) -> None:
    given = [o for o in TINY if not o.startswith("target")]
    line = told("train", *given, data, "target=nowhere:net", "--root", str(tmp_path))
    holds(line, "target.constructor", "'nowhere:net'", "package.module.name")


def test_an_unknown_method_of_inference_is_told_before_training(told: Told, data: str, tmp_path: Path) -> None:
    line = told("train", *TINY, data, "inference.methods=[one_shott]", "--root", str(tmp_path / "runs"))
    holds(line, "'one_shott'", "'one_shot'")
    assert not list((tmp_path / "runs").glob("*/metrics.jsonl"))


def test_an_unknown_row(told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results", tmp_path / "results")
    monkeypatch.setattr(cli, "RESULTS", tmp_path / "results")
    line = told("ledger", "--run", "supsup-acuracy-known", "--root", str(tmp_path))
    holds(line, "'supsup-acuracy-known'", "'supsup-accuracy-known'")
    holds(told("reproduce", "nothing-like-it", "--root", str(tmp_path)), "'nothing-like-it'", "nearest")


def test_a_report_of_what_is_not_finished(told: Told, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    write_json(tmp_path / "begun/config.json", {})
    write_json(tmp_path / "begun/environment.json", {})
    line = told("report", str(tmp_path / "begun"), "--out", str(tmp_path / "report.html"))
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


# ---- the ledger --------------------------------------------------------------------------------------------------------


def test_the_committed_ledger_is_consistent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["ledger", "--check"]) == 0
    assert capsys.readouterr().out  # each row of the bars is shown, or said not to be run yet


def test_a_row_above_another_is_run_and_reproduced_with_it(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    overrides = json.dumps([o for o in [*TINY, data] if not o.startswith(("experiment", "data="))] + ["data.name=tiny"])
    row = f"  title: A row\n  experiment: demo/base\n  overrides: {overrides}\n  seeds: [0]\n  metric: accuracy\n"
    (results / "bars.yaml").write_text(f"base:\n{row}same:\n{row}  bar: {{op: '<=', value: 0, above: base}}\n")
    rows.run(["all"], root=tmp_path / "runs", results=results)
    assert capsys.readouterr().out.splitlines()[-1].endswith("bar <= 0 above base: held")
    assert rows.reproduce("same", root=tmp_path / "again", results=results) == 0
    shown = capsys.readouterr().out.splitlines()[-2:]
    assert shown[0].split(maxsplit=1)[1] == shown[1].split(maxsplit=1)[1]


def test_a_row_is_run_shown_reproduced_and_its_forgery_is_found(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    overrides = json.dumps([o for o in [*TINY, data] if not o.startswith(("experiment", "data="))] + ["data.name=tiny"])
    (results / "bars.yaml").write_text(
        f"small:\n  title: Small\n  experiment: demo/base\n  overrides: {overrides}\n"
        "  seeds: [0, 1]\n  metric: accuracy\n  bar: {op: '>=', value: 2.0}\n"
        "other:\n  title: Other\n  experiment: demo/base\n  seeds: [0]\n  metric: accuracy\n"
    )
    rows.run(["small"], root=tmp_path / "runs", results=results)
    assert "small: " in capsys.readouterr().out
    (row,) = read_json(results / "ledger.json")
    assert row["seeds"] == [0, 1]
    assert "| Small |" in (results / "README.md").read_text()
    assert rows.show(results, check=True, missed=False) == 0
    assert "other: not run yet" in capsys.readouterr().out
    assert rows.show(results, check=True, missed=True) == 1  # no accuracy reaches 2
    assert rows.reproduce("small", root=tmp_path / "again", results=results) == 0
    shown = capsys.readouterr().out.splitlines()[-2:]
    assert shown[0].split(maxsplit=1)[1] == shown[1].split(maxsplit=1)[1]
    forged = row | {"mean": 0.99}
    write_json(results / "ledger.json", [forged])
    assert rows.show(results, check=True, missed=False) == 1
    assert rows.show(results, check=False, missed=False) == 0
    write_json(results / "ledger.json", [row])
    assert rows.show(results, check=True, missed=False) == 0


# ---- choosing ----------------------------------------------------------------------------------------------------------

CHOICE = ["experiment=supsup/permuted_mnist", "data=tiny", "target.kwargs.hidden=[8]", "device=cpu", "batch=16"]
CHOICE += ["stream.tasks=2", "steps=40", "inference.methods=[]", "optimizer=adam"]


def test_select_writes_its_choice_once(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, runs = tmp_path / "results", tmp_path / "runs"
    monkeypatch.setattr(cli, "RESULTS", results)
    given = [*CHOICE, data, "select.grid={optimizer.lr:[1.0e-5,0.1],schedule:[constant]}", "select.seeds=[100]"]
    given += ["select.held_out=20", "select.overrides=['stream.tasks=1']"]
    assert main(["select", *given, "--root", str(runs)]) == 0
    path = selection.file(results, "supsup/permuted_mnist")
    written = read_json(path)
    means = [row["mean"] for row in written["rows"]]
    assert [row["point"]["optimizer.lr"] for row in written["rows"]] == [1e-5, 0.1]
    assert (
        written["choice"]
        == written["rows"][means.index(max(means))]["point"]
        == {
            "optimizer.lr": 0.1,
            "schedule": "constant",
        }
    )
    assert (written["seeds"], written["held_out"], written["metric"]) == ([100], 20, "accuracy")
    finished = sorted((runs / "select").glob("*/result.json"))
    assert len(finished) == 2
    for file in finished:
        made = read_json(file)
        assert (made["data"]["held_out"], made["data"]["tasks"]) == (20, 1)
    before = (path.read_bytes(), [(f.stat().st_mtime_ns, f.read_bytes()) for f in finished])
    capsys.readouterr()
    assert main(["select", *given, "--root", str(runs)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("chosen: ")
    assert (path.read_bytes(), [(f.stat().st_mtime_ns, f.read_bytes()) for f in finished]) == before

    chosen = selection.chosen(load([*given, "optimizer.lr=0.1", "schedule=constant"]), results)
    assert chosen is not None
    assert (chosen["follows"], chosen["choice"], chosen["seeds"]) == (True, written["choice"], [100])
    for other in (["optimizer.lr=0.2", "schedule=constant"], ["optimizer.lr=0.1", "schedule=cosine"]):
        assert selection.chosen(load([*given, *other]), results)["follows"] is False  # type: ignore[index]
    assert selection.chosen(load(["experiment=demo/base"]), results) is None


def test_a_config_without_the_chosen_option_does_not_follow(tmp_path: Path) -> None:
    config = load(["experiment=demo/base", "optimizer=adam"])
    path = selection.file(tmp_path, "demo/base")
    path.parent.mkdir()
    made = {"metric": "accuracy", "seeds": [100], "held_out": 5, "commit": "c0ffee"}
    write_json(path, made | {"choice": {"optimizer.momentum": 0.9}})
    chosen = selection.chosen(config, tmp_path)
    assert chosen is not None
    assert chosen["follows"] is False


def test_the_committed_choices_are_those_of_their_experiments() -> None:
    for path in sorted((ROOT / "results/selection").glob("*.json")):
        made = read_json(path)
        assert path == selection.file(ROOT / "results", made["experiment"])
        assert not {0, 1, 2} & set(made["seeds"])  # those of the results
        chosen = selection.chosen(load([f"experiment={made['experiment']}"]), ROOT / "results")
        assert chosen is not None
        assert chosen["follows"] is True


def test_select_without_a_grid_or_with_an_unknown_metric(
    told: Told, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(told("select", *TINY, data, "--root", str(tmp_path)), "select needs a grid", "demo/base", "select.grid")
    given = [*CHOICE, data, "select.grid={optimizer.lr:[0.1],schedule:[constant]}", "select.seeds=[100]"]
    given += ["select.held_out=20", "select.overrides=['stream.tasks=1']", "select.metric=accurcy"]
    assert main(["select", *given, "--root", str(tmp_path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # after the progress of the run that it was looked for in
    assert line.startswith("error: select.metric")
    holds(line, "'accurcy'", "'accuracy'")


def test_what_a_kind_refuses_is_one_line(told: Told, data: str, tmp_path: Path) -> None:
    mask = ["modulator=topk_table", "modulators.topk.kind.density=1.5"]
    line = told("train", *TINY, data, *mask, "--root", str(tmp_path))
    holds(line, "density must be in (0, 1]; got 1.5; pass the share of weights to keep")
