import copy
import statistics

import pytest

from tasks.errors import UserError
from tasks.ledger.bars import load_bars
from tasks.ledger.ledger import check, load_ledger, record, seal
from tasks.ledger.page import render
from tasks.runs.files import read_json, write_json
from tasks.runs.run import Run

BARS = """
psp:
  title: Superposition | of tasks
  experiment: permuted
  overrides: [model.width=8, model.rate=1e-3, +kind=topk]
  seeds: [0, 1, 2]
  metric: inference.one_shot
  bar: {op: ">=", value: 0.9}
  published: {value: 0.94, source: "Wortsman et al. 2020, table 2", note: "250 tasks, ours 20"}
  note: small
plain:
  title: Plain
  experiment: permuted
  seeds: [0]
  metric: accuracies.-1
"""
DATA = {"name": "mnist", "sha256": "5e", "substitute": None, "tasks": 20}
CONFIG = {"experiment": "permuted", "model": {"width": 8, "rate": 0.001}, "kind": {"_target_": "neuromod.TopK"}}


pytestmark = pytest.mark.usefixtures("known_commit")


@pytest.fixture
def bars(tmp_path):
    return write_bars(tmp_path, BARS)


def write_bars(folder, text):
    (folder / "bars.yaml").write_text(text)
    return load_bars(folder / "bars.yaml")


def finished(root, seed=0, value=0.95, data=DATA, **config):
    command = ["python", "-m", "tasks", "run", "permuted", f"seed={seed}"]
    with Run.open(root, "permuted", CONFIG | {"seed": seed} | config, "ab", command) as run:
        run.finish({"inference": {"one_shot": value}, "accuracies": [0.1, 0.2], "data": data})
    return run


@pytest.fixture
def runs(tmp_path):
    return [finished(tmp_path, seed, value) for seed, value in ((2, 0.97), (0, 0.93), (1, 0.95))]


@pytest.fixture
def ledger(tmp_path, runs, bars):
    record("psp", runs, bars, tmp_path / "ledger.json")
    return load_ledger(tmp_path / "ledger.json")


def test_a_row_holds_what_its_runs_measured(ledger, runs, bars):
    (row,) = ledger
    assert (row["row"], row["seeds"], row["values"]) == ("psp", [0, 1, 2], [0.93, 0.95, 0.97])
    assert row["mean"] == pytest.approx(0.95)
    assert row["spread"] == pytest.approx(statistics.stdev([0.93, 0.95, 0.97]))
    assert (row["bar"], row["verdict"]) == ({"op": ">=", "value": 0.9}, "held")
    assert row["published"]["value"] == 0.94
    assert row["data"] == {"name": "mnist", "sha256": "5e", "substitute": None}
    assert row["config"] == CONFIG
    assert row["command"] == "python -m tasks run permuted seed=0"
    assert row["commit"] == "c0ffee" * 6
    assert row["entry_sha256"] == bars["psp"].sha256
    assert [f"permuted-{run['config_hash']}" for run in row["runs"]] == [runs[i].folder.name for i in (1, 2, 0)]
    assert row["runs"][0]["machine"] == read_json(runs[1].folder / "environment.json")["machine"]
    assert [problem.kind for problem in check(ledger, bars)] == ["not run yet"]


def leaves(tree, path=()):
    if isinstance(tree, dict | list) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    return [path]


def test_a_change_of_any_field_of_a_row_is_detected(ledger, bars):
    paths = [path for path in leaves(ledger[0]) if path != ("row",)]
    assert {path[0] for path in paths} == set(ledger[0]) - {"row"}
    for path in paths:
        forged = copy.deepcopy(ledger)
        spot = forged[0]
        for key in path[:-1]:
            spot = spot[key]
        spot[path[-1]] = "forged"
        assert [problem.kind for problem in check(forged, bars) if problem.fails] == ["seal"], path


def test_a_row_under_another_name_without_a_field_or_with_one_more_is_detected(ledger, bars):
    (row,) = ledger
    forgeries = [
        row | {"row": "plain"},
        row | {"more": 1},
        *({k: v for k, v in row.items() if k != out} for out in set(row) - {"row"}),
    ]
    for forged in forgeries:
        assert [problem.kind for problem in check([forged], bars) if problem.fails] == ["seal"]
    assert [problem.kind for problem in check([{"row": "plain", "mean": 1.0}], bars) if problem.fails] == ["seal"]
    assert [problem.kind for problem in check([row, row], bars) if problem.fails] == ["seal"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value: 0.9}", "value: 0.8}"),
        ('op: ">="', 'op: "<="'),
        ("model.width=8", "model.width=9"),
        ("[0, 1, 2]", "[0, 1, 3]"),
        ("value: 0.94", "value: 0.90"),
        ("inference.one_shot", "inference.other"),
        ("experiment: permuted\n  overrides", "experiment: rotated\n  overrides"),
    ],
)
def test_an_entry_that_changed_after_its_run_is_detected(ledger, tmp_path, old, new):
    changed = write_bars(tmp_path, BARS.replace(old, new, 1))
    assert [problem.kind for problem in check(ledger, changed) if problem.fails] == ["changed"]
    assert "0.95" not in render(ledger, changed)


def test_a_better_title_or_note_needs_no_new_run(ledger, tmp_path):
    retitled = write_bars(tmp_path, BARS.replace("note: small", "note: large").replace("of tasks", "of many"))
    assert [problem.kind for problem in check(ledger, retitled) if problem.fails] == []


def test_a_row_that_the_bars_do_not_know_is_detected(ledger, bars):
    found = check(ledger, {"plain": bars["plain"]})
    assert [(problem.row, problem.kind) for problem in found if problem.fails] == [("psp", "unknown")]


def test_a_row_not_run_yet_fails_a_strict_check_only(ledger, bars):
    assert [(p.row, p.kind, p.fails) for p in check(ledger, bars)] == [("plain", "not run yet", False)]
    assert [(p.row, p.kind, p.fails) for p in check(ledger, bars, strict=True)] == [("plain", "not run yet", True)]


def test_a_missed_bar_is_a_problem_where_bars_are_asked_for(tmp_path, bars):
    path = tmp_path / "ledger.json"
    row = record("psp", [finished(tmp_path, seed, 0.8) for seed in range(3)], bars, path)
    assert row["verdict"] == "missed"
    assert [p.kind for p in check([row], bars) if p.fails] == []
    found = [str(p) for p in check([row], bars, missed=True) if p.fails]
    assert found == ["psp: got 0.8, the bar is >= 0.9"]


ABOVE = """
more:
  title: More
  experiment: permuted
  seeds: [0]
  metric: accuracies.-1
  bar: {op: ">=", value: 0.05, above: plain}
"""


def test_a_row_held_above_another_knows_its_mean(tmp_path):
    bars, path = write_bars(tmp_path, BARS + ABOVE), tmp_path / "ledger.json"
    run = finished(tmp_path)
    with pytest.raises(UserError, match="more is held above plain; the ledger has no such row yet; run that row first"):
        record("more", [run], bars, path)
    record("plain", [run], bars, path)
    row = record("more", [run], bars, path)
    assert (row["beside"], row["verdict"]) == (0.2, "missed")
    assert row["bar"] == {"op": ">=", "value": 0.05, "above": "plain"}
    assert [str(p) for p in check(load_ledger(path), bars, missed=True) if p.fails] == [
        "more: got 0.2, the bar is >= 0.05 above plain"
    ]
    ledger = [seal(row | {"mean": 0.1}) if row["row"] == "plain" else row for row in load_ledger(path)]
    assert [str(p) for p in check(ledger, bars) if p.fails] == [
        "more: the row plain changed after its run; run it again"
    ]
    write_json(path, [entry for entry in ledger if entry["row"] == "plain"])
    assert record("more", [run], bars, path)["verdict"] == "held"
    assert "| >= 0.05 above plain | held |" in render(load_ledger(path), bars)


def test_one_seed_has_no_spread_and_no_bar_no_verdict(tmp_path, bars):
    row = record("plain", [finished(tmp_path)], bars, tmp_path / "ledger.json")
    assert (row["mean"], row["spread"], row["verdict"]) == (0.2, None, "no bar")


def test_a_substitute_drops_the_published_value_and_says_why(tmp_path, bars):
    data = DATA | {"substitute": "5,000 digits stand in for mnist"}
    runs = [finished(tmp_path, seed, data=data) for seed in range(3)]
    row = record("psp", runs, bars, tmp_path / "ledger.json")
    assert row["published"] is None
    assert row["published_dropped"] == "measured on a substitute: 5,000 digits stand in for mnist"
    page = render([row], bars)
    assert "0.94" not in page
    assert "Wortsman" not in page
    assert "published value dropped, measured on a substitute: 5,000 digits" in page


def test_recording_again_replaces_the_row_and_keeps_the_others_in_the_order_of_the_bars(tmp_path, bars, runs):
    path = tmp_path / "ledger.json"
    record("plain", [runs[1]], bars, path)
    record("psp", runs, bars, path)
    again = record("psp", runs, bars, path)
    assert [row["row"] for row in load_ledger(path)] == ["psp", "plain"]
    assert load_ledger(path)[0] == again
    assert check(load_ledger(path), bars) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root, runs: runs[:2], r"each seed \[0, 1, 2\]; got \[0, 2\]"),
        (lambda root, runs: [*runs, runs[0]], r"got \[0, 1, 2, 2\]"),
        (lambda root, runs: [*runs[:2], finished(root, 7)], "has 7"),
        (lambda root, runs: [*runs[:2], finished(root, 1, extra=1)], "differ in config"),
        (
            lambda root, runs: [*runs[:2], finished(root, 1, data=DATA | {"sha256": "0"}, kind={"a": 1})],
            "differ in config",
        ),
        (lambda root, runs: [*runs[:2], finished(root, 1, data={})], "lacks data"),
        (lambda root, runs: [*runs[:2], finished(root, 1, model={"width": 9, "rate": 0.001})], "model.width=9"),
        (lambda root, runs: [*runs[:2], finished(root, 1, experiment="rotated")], "is rotated"),
        (lambda root, runs: [*runs[:2], finished(root, 1, value=float("nan"))], "must be a number"),
        (lambda root, runs: [*runs[:2], finished(root, 1, value=None)], "must be a number"),
    ],
)
def test_runs_that_are_not_those_of_the_entry_are_refused(tmp_path, runs, bars, change, message):
    with pytest.raises(UserError, match=message) as caught:
        record("psp", change(tmp_path, runs), bars, tmp_path / "ledger.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ledger.json").exists()


def test_runs_on_different_data_are_refused(tmp_path, runs, bars):
    other = finished(tmp_path, 1, data=DATA | {"sha256": "0"})
    with pytest.raises(UserError, match="differ in data"):
        record("psp", [*runs[:2], other], bars, tmp_path / "ledger.json")


def test_an_unfinished_run_a_missing_metric_and_an_unknown_row_are_refused(tmp_path, runs, bars):
    with pytest.raises(UserError, match="'pps' does not; nearest: 'psp'"):
        record("pps", runs, bars, tmp_path / "ledger.json")
    (runs[0].folder / "result.json").unlink()
    with pytest.raises(UserError, match=r"no result\.json"):
        record("psp", runs, bars, tmp_path / "ledger.json")
    write_json(runs[0].folder / "result.json", {"data": DATA})
    with pytest.raises(UserError, match="got only data"):
        record("psp", runs, bars, tmp_path / "ledger.json")


def test_the_page_shows_ours_beside_the_published_value(ledger, bars):
    page = render(ledger, bars)
    row = next(line for line in page.splitlines() if "Superposition" in line)
    assert row == (
        "| Superposition \\| of tasks | 0.95 +- 0.02 | 0, 1, 2 | >= 0.9 | held | 0.94 | Wortsman et al. 2020, table 2 "
        "| `python -m tasks run permuted seed=0` | c0ffeec0ff |"
    )
    assert "| Plain | no valid run |" in page
    assert "published: 250 tasks, ours 20" in page
    assert "Wrong with this ledger" not in page


def test_the_page_shows_no_number_of_a_forged_row(ledger, bars):
    ledger[0]["mean"] = 0.99
    page = render(ledger, bars)
    assert "0.99" not in page
    assert "psp: no run wrote this row as it stands" in page


def test_files_that_are_no_bars_or_no_ledger(tmp_path):
    with pytest.raises(UserError, match="is none"):
        load_bars(tmp_path / "absent.yaml")
    assert load_ledger(tmp_path / "absent.json") == []
    (tmp_path / "ledger.json").write_text("{")
    with pytest.raises(UserError, match="must be JSON"):
        load_ledger(tmp_path / "ledger.json")
    (tmp_path / "ledger.json").write_text("[1]")
    with pytest.raises(UserError, match="list of rows"):
        load_ledger(tmp_path / "ledger.json")
