"""Rows of the ledger as commands: run them, show them, prove them, reproduce one."""

from collections.abc import Sequence
from pathlib import Path

from tasks.config.load import load
from tasks.errors import UserError, nearest
from tasks.experiment import execute
from tasks.ledger.bars import Bar, Entry, load_bars
from tasks.ledger.drawings.buys import buys
from tasks.ledger.drawings.hidden import hidden
from tasks.ledger.drawings.tradeoff import tradeoff
from tasks.ledger.ledger import Row, load_ledger, record
from tasks.ledger.ledger import check as problems_of
from tasks.ledger.page import render
from tasks.runs.files import write_atomic


def run(names: Sequence[str], *, root: Path, results: Path) -> None:
    """Run the named rows of ``bars.yaml`` (all of them: ``all``), one run a seed, and write them into the ledger."""
    bars = load_bars(results / "bars.yaml")
    for name in bars if list(names) == ["all"] else names:
        if name not in bars:
            raise UserError(
                f"a row stands in the bars before it is run; {name!r} does not; nearest: {nearest(name, bars)}"
            )
        row = record(name, _runs(bars[name], root, results), bars, results / "ledger.json")
        print(line(row), flush=True)
        write_pages(results)


def write_pages(results: Path) -> None:
    """The pages that are generated from the ledger: README.md, and the pictures whose rows it has."""
    bars, rows = load_bars(results / "bars.yaml"), load_ledger(results / "ledger.json")
    for name, drawn in {"tradeoff": tradeoff(rows), "hidden": hidden(rows), "buys": buys(rows)}.items():
        if drawn is not None:
            write_atomic(results / f"{name}.svg", drawn)
    write_atomic(results / "README.md", render(rows, bars))


def show(results: Path, *, check: bool, missed: bool) -> int:
    """Print the ledger and render its page; with ``check`` print instead what is wrong with it, and exit 1 for that."""
    bars, rows = load_bars(results / "bars.yaml"), load_ledger(results / "ledger.json")
    for row in rows:
        print(line(row))
    if not check:
        write_pages(results)
        return 0
    problems = problems_of(rows, bars, missed=missed)
    for problem in problems:
        print(f"{problem.row}: {problem.text}")
    return int(any(problem.fails for problem in problems))


def reproduce(name: str, *, root: Path, results: Path) -> int:
    """Run a row anew in a folder of its own and print the ledger's figure beside the new one."""
    bars, rows = load_bars(results / "bars.yaml"), load_ledger(results / "ledger.json")
    old = next((row for row in rows if row["row"] == name), None)
    if old is None:
        raise UserError(
            f"reproduce needs a row of the ledger; got {name!r}; nearest: {nearest(name, [r['row'] for r in rows])}"
        )
    for needed in (bars[name].above, name):
        if needed is not None:
            new = record(needed, _runs(bars[needed], root, results), bars, root / "ledger.json")
    print(f"ledger      {line(old)}\nreproduced  {line(new)}")
    return int(old["verdict"] != new["verdict"])


def line(row: Row) -> str:
    """A row on one line."""
    spread = "" if row["spread"] is None else f" +- {row['spread']:.4f}"
    bar = "" if row["bar"] is None else f", bar {Bar(**row['bar'])}: {row['verdict']}"
    return f"{row['row']}: {row['mean']:.4f}{spread} over seeds {row['seeds']}{bar}"


def _runs(entry: Entry, root: Path, results: Path) -> list[Path]:
    folders = []
    for seed in entry.seeds:
        given = [f"experiment={entry.experiment}", *entry.overrides, f"seed={seed}"]
        command = ["python", "-m", "tasks", "train", *given]
        folders.append(execute(load(given), root=root, command=command, results=results))
    return folders
