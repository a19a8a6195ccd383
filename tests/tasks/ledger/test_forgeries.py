"""Each way to a better number that no run gave is found by ``ledger --check``, seal and digests recomputed or not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.rows import problems, show, write_pages
from tasks.ledger.bars import load_bars
from tasks.ledger.ledger import seal
from tasks.ledger.selection import file
from tasks.ledger.store import Row, load, neat
from tests.tasks.ledger.house import as_before, commit, edit, forge, found, put
from tests.tasks.ledger.scratch import BARS


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
    put(house, [row for row in load(house).rows if row["row"] != "psp"])
    lines = found(house)
    assert any(line.startswith("psp: the ledger lacks this row") for line in lines)
    edit(house / "permuted" / "bars.yaml", "note: small", "not_run: it was never run")
    write_pages(house)
    assert [line for line in found(house) if line.startswith("psp: commit") and "can't vanish" in line]


def test_a_missed_row_that_vanished_with_its_bar(house: Path) -> None:
    (plain,) = [row for row in load(house).rows if row["row"] == "plain"]
    text = BARS[: BARS.index("  psp:")] + BARS[BARS.index("  plain:") :]
    (house / "permuted" / "bars.yaml").write_text(text)
    put(house, [plain])
    for _ in range(2):  # before it is committed and after
        assert [line for line in found(house) if line.startswith("psp: commit") and "can't vanish" in line]
        commit(house.parent)


def test_a_row_that_stands_twice(house: Path) -> None:
    rows = load(house).rows
    put(house, [*rows, rows[0]])
    assert any("no run writes a row twice" in line for line in found(house))


def test_a_row_in_the_folder_of_another_experiment(house: Path) -> None:
    (house / "other").mkdir()
    (house / "permuted" / "ledger.json").rename(house / "other" / "ledger.json")
    assert any("a row lies with its entry, in permuted; got other" in line for line in found(house))
    show(house, check=False, missed=False)
    assert found(house) == []
    assert not (house / "other" / "ledger.json").exists()


def test_a_row_without_the_proof_that_it_came_with(house: Path) -> None:
    rows = [as_before(row) for row in load(house).rows]
    put(house, rows)
    assert any("has this row with its proof" in line for line in found(house))
    put(house, [seal(row | {"proof": 1}) for row in rows])
    assert any("a row and its runs bring their proof together" in line for line in found(house))
