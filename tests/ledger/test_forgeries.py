"""Each way to a better number that no run gave is found by ``ledger --check``, seal and digests recomputed or not."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.rows import problems, show, write_pages
from tasks.errors import UserError
from tasks.ledger import proof
from tasks.ledger.bars import load_bars
from tasks.ledger.ledger import record, seal
from tasks.ledger.selection import file
from tasks.ledger.store import Row, load, neat, pack
from tasks.runs import environment
from tasks.runs.files import write_json
from tests.ledger.scratch import BARS, CONFIG, DATA, Run, write_bars

CHOICE = {"metric": "accuracy", "seeds": [100], "held_out": 5, "commit": "c0ffee", "choice": {"model.rate": 0.001}}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x", "--allow-empty")


def ran(root: Path, results: Path, seed: int, value: float) -> Run:
    """A finished run of the rows of `results`, which quotes the choice of its experiment."""
    from tasks.ledger.selection import chosen

    bars = {row: entry.sha256 for row, entry in load_bars(results).items()}
    with Run.open(root, "permuted", CONFIG | {"seed": seed}, "ab", ["python", str(seed)], bars=bars) as run:
        measured = {"inference": {"one_shot": value}, "accuracies": [0.1, 0.2], "data": DATA}
        run.finish(measured | {"selection": chosen(run.config, results)})
    return run


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with bars, a choice, a row that missed its bar and one without a bar, all committed in that order."""
    top = tmp_path / "house"
    results = top / "results"
    write_bars(results, BARS)
    write_json(file(results, "permuted"), CHOICE)
    (top / ".gitignore").write_text("runs\n")
    git(top, "init", "-q")
    commit(top)
    code = environment.code
    monkeypatch.setattr(proof, "HERE", top)
    monkeypatch.setattr(environment, "code", lambda: code(top))
    runs = [ran(top / "runs", results, seed, value) for seed, value in enumerate((0.8, 0.85, 0.81))]
    bars = load_bars(results)
    record("psp", runs, bars, results)
    record("plain", runs[:1], bars, results)
    write_pages(results)
    commit(top)
    return results


def found(results: Path, runs: str = "no runs at hand") -> list[str]:
    bars, ledger = load_bars(results), load(results)
    return [str(p) for p in problems(ledger, bars, results, results.parent / runs, missed=False) if p.fails]


def forge(results: Path, name: str, change: Callable[[Row], dict[str, Any]]) -> None:
    """A row changed and sealed anew, its page written anew."""
    rows = load(results).rows
    rows = [seal(row | change(row)) if row["row"] == name else row for row in rows]
    (results / "permuted" / "ledger.json").write_text(neat(pack(rows)) + "\n")
    write_pages(results)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_honest_ledger_is_proven_whole(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(house) == found(house, "runs") == []
    assert show(house, check=True, missed=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 rows, 0 wrong, 0 unproven"
    assert [p.text for p in problems(load(house), load_bars(house), house, house, missed=True)] == [
        "got 0.82, the bar is >= 0.9"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: {"mean": 0.95}, "the mean of its values is"),
        (lambda row: {"spread": 0.001}, "the spread of its values is"),
        (lambda row: {"verdict": "held"}, "its verdict is 'missed'; got 'held'"),
        (lambda row: {"bar": {"op": ">=", "value": 0.8}, "verdict": "held"}, "its bar must be that of its entry"),
        (lambda row: {"seeds": [0, 1, 3]}, "its seeds must be that of its entry"),
        (lambda row: {"metric": "inference.one_shot.of_one"}, "its experiment, overrides and metric must be those"),
        (lambda row: {"values": row["values"][1:], "mean": 0.83}, "a value per seed"),
    ],
)
def test_a_number_that_does_not_follow_from_the_values(house: Path, change: Callable[[Row], Any], message: str) -> None:
    forge_loosely(house, change)
    assert message in "\n".join(found(house))


def forge_loosely(results: Path, change: Callable[[Row], Any]) -> None:
    """As `forge`, for rows whose values and runs no longer fit each other."""
    path = results / "permuted" / "ledger.json"
    content = json.loads(path.read_text())
    (row,) = [row for row in load(results).rows if row["row"] == "psp"]
    changed = change(row)
    content["rows"][0] |= changed
    if "values" in changed:
        content["rows"][0]["runs"] = content["rows"][0]["runs"][1:]
    path.write_text(neat(content) + "\n")
    (row,) = [row for row in load(results).rows if row["row"] == "psp"]
    content["rows"][0]["seal"] = seal(row)["seal"]
    path.write_text(neat(content) + "\n")
    write_pages(results)


def test_a_value_of_a_run_that_has_another(house: Path) -> None:
    def better(row: Row) -> dict[str, Any]:
        runs = [run | {"value": 0.95} for run in row["runs"]]
        return {"values": [0.95] * 3, "mean": 0.95, "spread": 0.0, "verdict": "held", "runs": runs}

    forge(house, "psp", better)
    # Everything follows from the forged values; git has the true ones, and so have the runs where they are at hand.
    assert any("has another value of the same run" in line for line in found(house))
    assert sum("has 0.8 for seed 0; got 0.95" in line for line in found(house, "runs")) == 1
    commit(house.parent)
    assert any("has another value of the same run" in line for line in found(house))


def test_a_page_that_was_typed(house: Path) -> None:
    edit(house / "permuted" / "README.md", "0.82 ±", "0.92 ±")
    assert found(house) == [f"{house / 'permuted' / 'README.md'}: {PAGE}"]
    write_pages(house)
    edit(house / "README.md", "| 1 |", "| 0 |")
    assert found(house) == [f"{house / 'README.md'}: {PAGE}"]


PAGE = "a page is what its rows make of it; this one is not; python -m tasks ledger writes it"


def test_a_choice_that_was_edited_after_the_run(house: Path) -> None:
    edit(file(house, "permuted"), "0.001", "0.002")
    assert any("selection.json was changed after its run" in line for line in found(house))
    file(house, "permuted").unlink()
    assert any("it quotes a choice" in line for line in found(house))


def test_a_choice_of_an_old_row_that_was_edited_after_the_run(house: Path) -> None:
    forge(house, "psp", lambda row: {"selection": {k: v for k, v in row["selection"].items() if k != "sha256"}})
    assert not any("selection" in line for line in found(house))
    edit(file(house, "permuted"), "0.001", "0.002")
    assert any("has another choice than it quotes" in line for line in found(house))


def test_a_row_says_whether_it_follows_its_choice(house: Path) -> None:
    forge(house, "psp", lambda row: {"selection": row["selection"] | {"follows": False}})
    assert any("whether it follows its choice must be True; got False" in line for line in found(house))


def lowered(house: Path) -> None:
    """The bar lowered, and its digest wherever one is kept."""
    edit(house / "permuted" / "bars.yaml", "value: 0.9}", "value: 0.8}")
    now = load_bars(house)["psp"].sha256

    def as_if(row: Row) -> dict[str, Any]:
        runs = [run | {"bars": run["bars"] | {"psp": now}} for run in row["runs"]]
        return {"bar": {"op": ">=", "value": 0.8}, "verdict": "held", "entry_sha256": now, "runs": runs}

    forge(house, "psp", as_if)


def test_a_bar_that_was_lowered_after_the_run(house: Path) -> None:
    edit(house / "permuted" / "bars.yaml", "value: 0.9}", "value: 0.8}")
    write_pages(house)
    assert any("its entry in the bars changed after its run" in line for line in found(house))
    edit(house / "permuted" / "bars.yaml", "value: 0.8}", "value: 0.9}")
    lowered(house)
    assert [line for line in found(house) if "was changed after its run (bar)" in line]
    commit(house.parent)
    assert [line for line in found(house) if "was changed after its run (bar)" in line]


def test_runs_that_did_not_know_the_bar(house: Path) -> None:
    forge(house, "psp", lambda row: {"runs": [run | {"bars": {}} for run in row["runs"]]})
    assert any("its runs began with another bar or with none" in line for line in found(house))


def test_a_missed_row_that_vanished(house: Path) -> None:
    path = house / "permuted" / "ledger.json"
    path.write_text(neat(pack([row for row in load(house).rows if row["row"] != "psp"])) + "\n")
    write_pages(house)
    lines = found(house)
    assert any(line.startswith("psp: the ledger lacks this row") for line in lines)
    edit(house / "permuted" / "bars.yaml", "note: small", "not_run: it was never run")
    write_pages(house)
    assert [line for line in found(house) if line.startswith("psp: commit") and "can't vanish" in line]


def test_a_missed_row_that_vanished_with_its_bar(house: Path) -> None:
    (plain,) = [row for row in load(house).rows if row["row"] == "plain"]
    text = BARS[: BARS.index("  psp:")] + BARS[BARS.index("  plain:") :]
    (house / "permuted" / "bars.yaml").write_text(text)
    (house / "permuted" / "ledger.json").write_text(neat(pack([plain])) + "\n")
    write_pages(house)
    for _ in range(2):  # before it is committed and after
        assert [line for line in found(house) if line.startswith("psp: commit") and "can't vanish" in line]
        commit(house.parent)


def test_a_row_that_stands_twice(house: Path) -> None:
    rows = load(house).rows
    (house / "permuted" / "ledger.json").write_text(neat(pack([*rows, rows[0]])) + "\n")
    write_pages(house)
    assert any("no run writes a row twice" in line for line in found(house))


def test_a_row_in_the_folder_of_another_experiment(house: Path) -> None:
    (house / "other").mkdir()
    (house / "permuted" / "ledger.json").rename(house / "other" / "ledger.json")
    assert any("a row lies with its entry, in permuted; got other" in line for line in found(house))
    show(house, check=False, missed=False)
    assert found(house) == []
    assert not (house / "other" / "ledger.json").exists()


def test_a_row_without_the_proof_that_it_came_with(house: Path) -> None:
    rows = [seal({k: v for k, v in row.items() if k != "proof"}) for row in load(house).rows]
    (house / "permuted" / "ledger.json").write_text(neat(pack(rows)) + "\n")
    write_pages(house)
    assert any("has this row with its proof" in line for line in found(house))


def test_bars_are_code_and_what_commands_write_is_not(house: Path) -> None:
    assert environment.code().dirty is False
    for name in ("ledger.json", "README.md", "selection.json"):
        path = house / "permuted" / name
        path.write_text(path.read_text() + "\n")
    (house / "buys.svg").write_text("")
    assert environment.code().dirty is False
    edit(house / "permuted" / "bars.yaml", "value: 0.9}", "value: 0.8}")
    assert environment.code().dirty is True


def test_a_new_row_of_uncommitted_bars_fails_and_an_old_one_says_so(house: Path) -> None:
    text = (house / "permuted" / "bars.yaml").read_text()
    bars = write_bars(house, text + "  late:\n    title: Late\n    metric: accuracies.0\n")
    runs = [ran(house.parent / "late", house, seed, 0.5) for seed in range(3)]
    record("late", runs, bars, house)
    write_pages(house)
    lines = [line for line in found(house) if line.startswith("late")]
    assert ["uncommitted code" in lines[0], "its entry was committed after its run" in lines[1]] == [True, True]
    # The same row from before proofs were kept: it does not fail, but its ledger says what git says.
    *others, late = load(house).rows
    rows = [*others, seal({k: v for k, v in late.items() if k != "proof"})]
    reasons = ["it ran with uncommitted code", "its entry was committed after its run"]
    (house / "permuted" / "ledger.json").write_text(neat(pack(rows)) + "\n")
    write_pages(house)
    assert any("git says of this row: it ran with uncommitted code" in line for line in found(house))
    (house / "permuted" / "ledger.json").write_text(neat(pack(rows, {"late": reasons})) + "\n")
    write_pages(house)
    assert found(house) == []
    assert "- late: it ran with uncommitted code; its entry was" in (house / "permuted" / "README.md").read_text()


def test_without_a_history_nothing_is_proven_and_the_check_says_so(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "HERE", tmp_path / "elsewhere")
    told = problems(load(house), load_bars(house), house, house, missed=False)
    assert [(p.fails, p.text) for p in told] == [
        (False, "the results are in no checkout of this code; git proves nothing of them here")
    ]
    copy = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", house.parent.as_uri(), str(copy))
    monkeypatch.setattr(proof, "HERE", copy)
    lines = found(copy / "results")
    assert len(lines) == 2  # rows that were to bring their proof
    assert all("the history at hand has no commit" in line and line.endswith("git fetch --unshallow") for line in lines)


def test_an_entry_may_have_stood_under_a_former_name(house: Path) -> None:
    """Experiment, override and metric renamed after the run: `was` leads to the bars of its commit."""
    text = (house / "permuted" / "bars.yaml").read_text()
    moved = text.replace("note: small", "was: {experiment: permuted, metric: inference.one_shot}")
    moved = moved.replace("metric: inference.one_shot\n", "metric: one_shot\n").replace(
        "metric: accuracies.-1", "metric: last\n    was: {experiment: permuted, metric: accuracies.-1}"
    )
    (house / "permuted" / "bars.yaml").unlink()
    write_bars(house, moved, "streams/permuted")
    file(house, "permuted").rename(house / "streams" / "permuted" / "selection.json")
    show(house, check=False, missed=False)
    assert [line.rpartition(": ")[2] for line in found(house)] == [
        "a page has rows; no bars are of this family; remove it"
    ]
    (house / "permuted" / "README.md").unlink()
    assert found(house) == []
    assert not list((house / "permuted").iterdir())


def test_a_run_that_is_held_to_a_new_bar_must_run_again(house: Path) -> None:
    bars = write_bars(house, BARS.replace("value: 0.9}", "value: 0.8}"))
    folders = sorted((house.parent / "runs").iterdir())
    with pytest.raises(UserError, match="psp needs runs that began with its bar as it stands"):
        record("psp", folders, bars, house)
