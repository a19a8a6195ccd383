"""Rows and choices as commands: run, shown, proven, reproduced; each writes what it ran and nothing else."""

import json
import shutil
from pathlib import Path

import pytest

from tasks.commands import rows
from tasks.commands.cli import main
from tasks.config.load import load
from tasks.experiment import execute
from tasks.ledger import selection
from tasks.ledger.bars import load_bars
from tasks.ledger.store import load as load_results
from tasks.runs.files import read_json, write_json
from tests.images import write

ROOT = Path(__file__).parents[3]
TINY = ["experiment=demo/base", "data=tiny", "target=lenet_300_100", "target.kwargs.hidden=[8]", "device=cpu"]
TINY += ["stream.tasks=2", "outputs=10", "batch=8", "steps=3", "optimizer.lr=0.01"]


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"data.root='{write(tmp_path / 'data')}'"


def overrides(data: str) -> str:
    """The small experiment as a row has it."""
    return json.dumps([o for o in [*TINY, data] if not o.startswith(("experiment", "data="))] + ["data.name=tiny"])


def bars(results: Path, text: str) -> Path:
    path = results / "demo" / "base" / "bars.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_the_committed_ledger_is_consistent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["ledger", "--check"]) == 0
    ran = [entry for entry in load_bars("results").values() if not entry.not_run]
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{len(ran)} rows, 0 wrong, ")


def test_an_unknown_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "results", tmp_path / "mine")
    where = ["--root", str(tmp_path), "--results", str(tmp_path / "mine")]
    assert main(["ledger", "--run", "supsup-acuracy-known", *where]) == 2
    line = capsys.readouterr().err
    assert "'supsup-acuracy-known'" in line
    assert "'supsup-accuracy-known'" in line
    assert main(["reproduce", "nothing-like-it", *where]) == 2
    assert "got 'nothing-like-it'; nearest: " in capsys.readouterr().err


def test_a_row_above_another_is_run_and_reproduced_with_it(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "mine"
    row = f"    title: A row\n    overrides: {overrides(data)}\n    metric: accuracy\n"
    same = f"  same:\n{row}    bar: {{op: '<=', value: 0, above: base}}\n"
    bars(results, f"seeds: [0]\nrows:\n{same}  base:\n{row}")
    where = ["--root", str(tmp_path / "runs"), "--results", str(results)]
    assert main(["ledger", "--run", "all", *where]) == 0
    assert "bar <= 0 above base: held" in capsys.readouterr().out
    assert main(["reproduce", "same", "--root", str(tmp_path / "again"), "--results", str(results)]) == 0
    shown = capsys.readouterr().out.splitlines()[-2:]
    assert shown[0].split(maxsplit=1)[1] == shown[1].split(maxsplit=1)[1]
    for run in (tmp_path / "runs").glob("*/environment.json"):
        known = {name: entry.sha256 for name, entry in load_bars(results).items()}
        assert read_json(run)["bars"] == known  # both rows, by one run


def test_a_row_is_run_shown_reproduced_and_its_forgery_is_found(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    bars(
        results,
        f"seeds: [0, 1]\nrows:\n  small:\n    title: Small\n    overrides: {overrides(data)}\n"
        "    metric: accuracy\n    bar: {op: '>=', value: 2.0}\n"
        "  other:\n    title: Other\n    metric: accuracy\n    not_run: waits\n",
    )
    rows.run(["small"], root=tmp_path / "runs", results=results)
    assert "small: " in capsys.readouterr().out
    (row,) = load_results(results).rows
    assert row["seeds"] == [0, 1]
    assert "| Small |" in (results / "demo" / "README.md").read_text()
    assert rows.show(results, check=True, missed=False) == 0
    assert "other: not run: waits" in capsys.readouterr().out
    assert rows.show(results, check=True, missed=True) == 1  # no accuracy reaches 2
    assert rows.reproduce("small", root=tmp_path / "again", results=results) == 0
    shown = capsys.readouterr().out.splitlines()[-2:]
    assert shown[0].split(maxsplit=1)[1] == shown[1].split(maxsplit=1)[1]
    path = results / "demo" / "base" / "ledger.json"
    honest = path.read_bytes()
    content = read_json(path)
    content["rows"][0]["mean"] = 0.99
    write_json(path, content)
    assert rows.show(results, check=True, missed=False) == 1
    assert rows.show(results, check=False, missed=False) == 0
    path.write_bytes(honest)
    assert rows.show(results, check=False, missed=False) == 0
    assert rows.show(results, check=True, missed=False) == 0


def test_a_command_writes_what_it_ran_and_nothing_else(data: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results", results)
    row = f"    title: Mine\n    overrides: {overrides(data)}\n    metric: accuracy\n"
    bars(results, f"seeds: [0]\nrows:\n  mine:\n{row}")
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}
    rows.run(["mine"], root=tmp_path / "runs", results=results)
    after = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}
    written = {str(path.relative_to(results)) for path in after if after[path] != before.get(path)}
    assert written == {"README.md", "demo/README.md", "demo/base/ledger.json"}
    rows.run(["mine"], root=tmp_path / "runs", results=results)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()} == after


def test_runs_of_both_families_begin_with_their_bars_and_keep_those_of_their_start(data: str, tmp_path: Path) -> None:
    waves = ["experiment=meta/waves_maml", "steps=2", "test.tasks=4", "test.points=5", "device=cpu"]
    for given in ([*TINY, data], waves):
        folder = execute(load(given), root=tmp_path, command=["x"], bars={"row": "5e"})
        assert read_json(folder / "environment.json")["bars"] == {"row": "5e"}
        # Finished: a bar that is thought of later is not the run's.
        assert execute(load(given), root=tmp_path, command=["x"], bars={"row": "ab"}) == folder
        assert read_json(folder / "environment.json")["bars"] == {"row": "5e"}


# ---- choosing ----------------------------------------------------------------------------------------------------------

CHOICE = ["experiment=supsup/permuted_mnist", "data=tiny", "target.kwargs.hidden=[8]", "device=cpu", "batch=16"]
CHOICE += ["stream.tasks=2", "steps=40", "inference.methods=[]", "optimizer=adam"]


def test_select_writes_its_choice_once(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, runs = tmp_path / "mine", tmp_path / "runs"
    where = ["--root", str(runs), "--results", str(results)]
    given = [*CHOICE, data, "select.grid={optimizer.lr:[1.0e-5,0.1],schedule:[constant]}", "select.seeds=[100]"]
    given += ["select.held_out=20", "select.overrides=['stream.tasks=1']"]
    assert main(["select", *given, *where]) == 0
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
    assert written["edge"] == {"optimizer.lr": True, "schedule": False}
    warning = "warning: at the edge of its grid: optimizer.lr=0.1; a better value may lie outside; widen select.grid"
    assert warning in capsys.readouterr().out.splitlines()
    assert main(["select", *given, *where]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("chosen: ")
    assert (path.read_bytes(), [(f.stat().st_mtime_ns, f.read_bytes()) for f in finished]) == before

    chosen = selection.choice_of(load([*given, "optimizer.lr=0.1", "schedule=constant"]), results)
    assert chosen is not None
    assert (chosen["follows"], chosen["choice"], chosen["seeds"]) == (True, written["choice"], [100])
    for other in (["optimizer.lr=0.2", "schedule=constant"], ["optimizer.lr=0.1", "schedule=cosine"]):
        assert selection.choice_of(load([*given, *other]), results)["follows"] is False  # type: ignore[index]
    assert selection.choice_of(load(["experiment=demo/base"]), results) is None


def test_a_config_without_the_chosen_option_does_not_follow(tmp_path: Path) -> None:
    config = load(["experiment=demo/base", "optimizer=adam"])
    path = selection.file(tmp_path, "demo/base")
    path.parent.mkdir(parents=True)
    made = {"metric": "accuracy", "seeds": [100], "held_out": 5, "commit": "c0ffee"}
    write_json(path, made | {"choice": {"optimizer.momentum": 0.9}})
    chosen = selection.choice_of(config, tmp_path)
    assert chosen is not None
    assert chosen["follows"] is False


def test_the_committed_choices_are_those_of_their_experiments() -> None:
    for path in sorted((ROOT / "results").rglob(selection.NAME)):
        made = read_json(path)
        assert path == selection.file(ROOT / "results", made["experiment"])
        assert not {0, 1, 2} & set(made["seeds"])  # those of the results
        chosen = selection.choice_of(load([f"experiment={made['experiment']}"]), ROOT / "results")
        assert chosen is not None
        assert chosen["follows"] is True


def test_select_without_a_grid_or_with_an_unknown_metric(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", *TINY, data, "--root", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert all(part in line for part in ("select needs a grid", "demo/base", "select.grid"))
    given = [*CHOICE, data, "select.grid={optimizer.lr:[0.1],schedule:[constant]}", "select.seeds=[100]"]
    given += ["select.held_out=20", "select.overrides=['stream.tasks=1']", "select.metric=accurcy"]
    assert main(["select", *given, "--root", str(tmp_path), "--results", str(tmp_path / "mine")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # after the progress of the run that it was looked for in
    assert line.startswith("error: select.metric: ")
    assert "got 'accurcy'; nearest: 'accuracy'" in line
