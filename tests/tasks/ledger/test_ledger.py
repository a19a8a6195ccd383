"""Rows are made from finished runs of their entry, and from no others; any change of a row is found."""

import copy
import statistics

import pytest

from tasks.errors import UserError
from tasks.ledger.check import check
from tasks.ledger.ledger import record, run_digests, seal
from tasks.ledger.page import render
from tasks.ledger.store import Ledger, load, load_ledger
from tasks.runs.files import read_json, write_json
from tests.tasks.ledger.scratch import ABOVE, BARS, CONFIG, DATA, finished, write_bars

pytestmark = pytest.mark.usefixtures("known_commit")


@pytest.fixture
def ledger(results, runs, bars):
    record("psp", runs, bars, results)
    return load_ledger(results)


def failing(rows, bars, **asked):
    return [problem for problem in check(Ledger(rows), bars, **asked) if problem.fails and problem.kind != "absent"]


def kinds(rows, bars):
    return [problem.kind for problem in failing(rows, bars)]


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
    assert (row["proof"], row["runs"][0]["bars"]) == (1, {name: entry.sha256 for name, entry in bars.items()})
    assert [(p.row, p.kind) for p in check(Ledger(ledger), bars)] == [("plain", "absent")]


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
        assert kinds(forged, bars) == ["seal"], path


def test_a_row_under_another_name_without_a_field_or_with_one_more_is_detected(ledger, bars):
    (row,) = ledger
    forgeries = [
        row | {"row": "plain"},
        row | {"more": 1},
        *({k: v for k, v in row.items() if k != out} for out in set(row) - {"row"}),
    ]
    for forged in forgeries:
        assert kinds([forged], bars) == ["seal"]
    assert kinds([{"row": "plain", "mean": 1.0}], bars) == ["seal"]
    assert kinds([row, row], bars) == ["seal"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value: 0.9}", "value: 0.8}"),
        ('op: ">="', 'op: "<="'),
        ("model.width=8", "model.width=9"),
        ("[0, 1, 2]", "[0, 1, 3]"),
        ("value: 0.94", "value: 0.90"),
        ("inference.one_shot", "inference.other"),
    ],
)
def test_an_entry_that_changed_after_its_run_is_detected(ledger, results, old, new):
    changed = write_bars(results, BARS.replace(old, new, 1))
    assert kinds(ledger, changed) == ["changed"]
    assert "0.95" not in page(ledger, changed)


def test_a_better_title_or_note_needs_no_new_run(ledger, results):
    retitled = write_bars(results, BARS.replace("note: small", "note: large").replace("of tasks", "of many"))
    assert kinds(ledger, retitled) == []


def test_a_row_that_the_bars_do_not_know_is_detected(ledger, bars):
    found = failing(ledger, {"plain": bars["plain"]})
    assert [(problem.row, problem.kind) for problem in found] == [("psp", "unknown")]


def test_a_row_that_the_ledger_lacks_is_an_error_unless_its_entry_says_why(ledger, results, bars):
    (problem,) = check(Ledger(ledger), bars)
    assert (problem.row, problem.kind, problem.fails) == ("plain", "absent", True)
    assert "say `not_run: REASON` in its entry" in problem.text
    said = write_bars(results, BARS + "    not_run: waits for a GPU\n")
    assert [(str(p), p.fails) for p in check(Ledger(ledger), said)] == [("plain: not run: waits for a GPU", False)]
    assert "| Plain | not run: waits for a GPU |" in page(ledger, said)
    both = write_bars(results, BARS.replace("note: small", "not_run: never"))
    said_twice = [str(problem) for problem in check(Ledger(ledger), both)]
    assert "psp: its entry says not_run and the ledger has it; take not_run out" in said_twice


def test_a_missed_bar_is_a_problem_where_bars_are_asked_for(tmp_path, results, bars):
    row = record("psp", [finished(tmp_path, seed, 0.8, bars=bars) for seed in range(3)], bars, results)
    assert row["verdict"] == "missed"
    assert kinds([row], bars) == []
    assert [str(p) for p in failing([row], bars, missed=True)] == ["psp: got 0.8, the bar is >= 0.9"]


def test_a_row_held_above_another_knows_its_mean(tmp_path, results):
    bars = write_bars(results, BARS + ABOVE)
    run = finished(tmp_path, bars=bars)
    with pytest.raises(UserError, match="more is held above plain; the ledger has no such row yet; run that row first"):
        record("more", [run], bars, results)
    record("plain", [run], bars, results)
    row = record("more", [run], bars, results)
    assert (row["beside"], row["verdict"]) == (0.2, "missed")
    assert row["bar"] == {"op": ">=", "value": 0.05, "above": "plain"}
    rows = load_ledger(results)
    assert [str(p) for p in failing(rows, bars, missed=True)] == ["more: got 0.2, the bar is >= 0.05 above plain"]
    other = [seal(row | {"mean": 0.1}) if row["row"] == "plain" else row for row in rows]
    assert "more: the row plain changed after its run; run it again" in [str(p) for p in failing(other, bars)]
    assert "| >= 0.05 above plain | missed |" in page(rows, bars)


def test_one_seed_has_no_spread_and_no_bar_no_verdict(tmp_path, results, bars):
    row = record("plain", [finished(tmp_path, bars=bars)], bars, results)
    assert (row["mean"], row["spread"], row["verdict"]) == (0.2, None, "no bar")


def test_a_substitute_drops_the_published_value_and_says_why(tmp_path, results, bars):
    data = DATA | {"substitute": "5,000 digits stand in for mnist"}
    runs = [finished(tmp_path, seed, data=data, bars=bars) for seed in range(3)]
    row = record("psp", runs, bars, results)
    assert row["published"] is None
    assert row["published_dropped"] == "measured on a substitute: 5,000 digits stand in for mnist"
    shown = page([row], bars)
    assert "0.94" not in shown
    assert "Wortsman" not in shown
    assert "published value dropped, measured on a substitute: 5,000 digits" in shown


def test_recording_again_replaces_the_row_and_keeps_the_others_in_the_order_of_the_bars(results, bars, runs):
    record("plain", [runs[1]], bars, results)
    record("psp", runs, bars, results)
    before = (results / "permuted" / "ledger.json").read_bytes()
    again = record("psp", runs, bars, results)
    assert [row["row"] for row in load_ledger(results)] == ["psp", "plain"]
    assert load_ledger(results)[0] == again
    assert (results / "permuted" / "ledger.json").read_bytes() == before
    assert check(load(results), bars) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root, runs, bars: runs[:2], r"each seed \[0, 1, 2\]; got \[0, 2\]"),
        (lambda root, runs, bars: [*runs, runs[0]], r"got \[0, 1, 2, 2\]"),
        (lambda root, runs, bars: [*runs[:2], finished(root, 7, bars=bars)], "has 7"),
        (lambda root, runs, bars: [*runs[:2], finished(root, 1, bars=bars, extra=1)], "differ in config"),
        (
            lambda root, runs, bars: [
                *runs[:2],
                finished(root, 1, bars=bars, data=DATA | {"sha256": "0"}, kind={"a": 1}),
            ],
            "differ in config",
        ),
        (lambda root, runs, bars: [*runs[:2], finished(root, 1, bars=bars, data={})], "lacks data"),
        (
            lambda root, runs, bars: [*runs[:2], finished(root, 1, bars=bars, model={"width": 9, "rate": 0.001})],
            "model.width=9",
        ),
        (lambda root, runs, bars: [*runs[:2], finished(root, 1, bars=bars, experiment="rotated")], "is rotated"),
        (
            lambda root, runs, bars: [*runs[:2], finished(root, 1, bars=bars, value=float("nan"))],
            "must be a finite number",
        ),
        (lambda root, runs, bars: [*runs[:2], finished(root, 1, bars=bars, value=None)], "must be a finite number"),
    ],
)
def test_runs_that_are_not_those_of_the_entry_are_refused(tmp_path, results, runs, bars, change, message):
    with pytest.raises(UserError, match=message) as caught:
        record("psp", change(tmp_path, runs, bars), bars, results)
    assert "\n" not in str(caught.value)
    assert not (results / "permuted" / "ledger.json").exists()


def test_runs_on_different_data_are_refused(tmp_path, results, runs, bars):
    other = finished(tmp_path, 1, bars=bars, data=DATA | {"sha256": "0"})
    with pytest.raises(UserError, match="differ in data"):
        record("psp", [*runs[:2], other], bars, results)


def test_an_unfinished_run_a_missing_metric_and_an_unknown_row_are_refused(results, runs, bars):
    with pytest.raises(UserError, match="'pps' does not; nearest: 'psp'"):
        record("pps", runs, bars, results)
    (runs[0].folder / "result.json").unlink()
    with pytest.raises(UserError, match=r"no result\.json"):
        record("psp", runs, bars, results)
    write_json(runs[0].folder / "result.json", {"data": DATA})
    with pytest.raises(UserError, match=r"the path of a number in a result; got 'inference\.one_shot'"):
        record("psp", runs, bars, results)


def test_a_run_that_began_before_its_bar_stood_is_refused(tmp_path, results, bars):
    late = [finished(tmp_path / "none", seed) for seed in range(3)]
    with pytest.raises(UserError, match=r"with its bar as it stands; .* began without it; remove"):
        record("psp", late, bars, results)
    runs = [finished(tmp_path / "other", seed, bars=bars) for seed in range(3)]
    lowered = write_bars(results, BARS.replace("value: 0.9}", "value: 0.8}"))
    with pytest.raises(UserError, match=r"with its bar as it stands; .* began with another"):
        record("psp", runs, lowered, results)
    assert load_ledger(results) == []


def test_a_run_records_the_bars_of_all_rows_that_share_it(results):
    shared = "\n  second:\n    title: Second\n    seeds: [0]\n    metric: accuracies.0\n"
    bars = write_bars(results, BARS + shared)
    assert run_digests(bars["plain"], bars) == {name: bars[name].sha256 for name in ("plain", "second")}
    assert list(run_digests(bars["psp"], bars)) == ["psp"]


def page(rows, bars):
    problems = [problem for problem in check(Ledger(rows), bars) if problem.fails]
    return render(Ledger(rows), bars, {}, problems)


def test_the_page_shows_ours_beside_the_published_value(ledger, bars):
    shown = page(ledger, bars)
    row = next(line for line in shown.splitlines() if "Superposition" in line)
    assert row == (
        "| Superposition \\| of tasks | 0.95 ± 0.02 [0.9003, 0.9997] | 0, 1, 2 | >= 0.9 | held | 0.94 "
        "| Wortsman et al. 2020, table 2 | `python -m tasks run permuted seed=0` | c0ffeec0ff |"
    )
    assert "| Plain | no valid run |" in shown
    assert "published: 250 tasks, ours 20" in shown


def test_the_page_prints_the_command_of_today_beside_the_sealed_one(ledger, results, bars):
    was = "was: {overrides: [model.width=8, model.rate=1e-3, +kind=topk], metric: inference.one_shot}"
    moved = BARS.replace("model.width=8, model.rate=1e-3, +kind=topk", "run.width=8")
    moved = moved.replace(": inference.one_shot", ": one_shot")
    now = write_bars(results, moved.replace("note: small", was))
    assert kinds(ledger, now) == []
    shown = page(ledger, now)
    now = "python -m tasks train experiment=permuted run.width=8 seed=0"
    assert f"`python -m tasks run permuted seed=0`, now: `{now}`" in shown
    assert "metric `inference.one_shot`, now: `one_shot`" in shown


def test_the_page_shows_no_number_of_a_forged_row(ledger, bars):
    ledger[0]["mean"] = 0.99
    shown = page(ledger, bars)
    assert "0.99" not in shown
    assert "psp: no run wrote this row as it stands" in shown
