"""What git shows of a row and what it can't: uncommitted bars, former names, no history at hand."""

from pathlib import Path

import pytest

from tasks.commands.rows import problems, show, write_pages
from tasks.errors import UserError
from tasks.ledger import proof
from tasks.ledger.bars import load_bars
from tasks.ledger.ledger import record
from tasks.ledger.selection import file
from tasks.ledger.store import load
from tasks.runs import environment
from tests.tasks.ledger.house import as_before, edit, found, git, put, ran
from tests.tasks.ledger.scratch import BARS, write_bars


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
    rows = [*others, as_before(late)]
    reasons = ["it ran with uncommitted code", "its entry was committed after its run"]
    put(house, rows)
    assert any("git says of this row: it ran with uncommitted code" in line for line in found(house))
    put(house, rows, {"late": reasons})
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
