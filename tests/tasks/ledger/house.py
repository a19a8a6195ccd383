"""A checkout with a small ledger, to forge; what its check finds."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.commands.rows import problems, write_pages
from tasks.ledger.bars import load_bars
from tasks.ledger.ledger import seal
from tasks.ledger.selection import choice_of
from tasks.ledger.store import Row, load, neat, pack
from tests.tasks.ledger.scratch import CONFIG, DATA, Run

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
    bars = {row: entry.sha256 for row, entry in load_bars(results).items()}
    with Run.open(root, "permuted", CONFIG | {"seed": seed}, "ab", ["python", str(seed)], bars=bars) as run:
        measured = {"inference": {"one_shot": value}, "accuracies": [0.1, 0.2], "data": DATA}
        run.finish(measured | {"selection": choice_of(run.config, results)})
    return run


def found(results: Path, runs: str = "no runs at hand") -> list[str]:
    bars, ledger = load_bars(results), load(results)
    return [str(p) for p in problems(ledger, bars, results, results.parent / runs, missed=False) if p.fails]


def forge(results: Path, name: str, change: Callable[[Row], dict[str, Any]]) -> None:
    """A row changed and sealed anew, its page written anew."""
    rows = load(results).rows
    rows = [seal(row | change(row)) if row["row"] == name else row for row in rows]
    put(results, rows)


def as_before(row: Row) -> Row:
    """A row as it was recorded before proofs were kept."""
    runs = [{key: value for key, value in run.items() if key != "bars"} for run in row["runs"]]
    return seal({key: value for key, value in row.items() if key != "proof"} | {"runs": runs})


def put(results: Path, rows: list[Row], unproven: dict[str, list[str]] | None = None) -> None:
    """Rows in the place of those of the ledger, its page written anew."""
    (results / "permuted" / "ledger.json").write_text(neat(pack(rows, unproven)) + "\n")
    write_pages(results)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
