"""Rows of the ledger as commands: run them, show them, prove them, reproduce one.

Args:
    root: the folder of the runs.
    results: the folder of bars, choices and ledgers.

"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.config.load import load as compose
from tasks.errors import UserError, nearest
from tasks.experiment import execute
from tasks.ledger.bars import load_bars, runs_first
from tasks.ledger.check import Problem, check_history, check_runs, check_selections
from tasks.ledger.check import check as check_rows
from tasks.ledger.drawings import buys, hidden, price, tradeoff
from tasks.ledger.entry import Bar, Entry
from tasks.ledger.ledger import make_row, record, run_digests
from tasks.ledger.page import ours, pages
from tasks.ledger.store import Ledger, Row, load, save, write_changed

# File, which rows it shows, and what draws it.
DRAWINGS = (
    ("tradeoff.svg", tradeoff.shows, tradeoff.tradeoff),
    ("hidden.svg", hidden.shows, hidden.hidden),
    ("buys.svg", buys.shows, buys.buys),
    ("price.svg", price.shows, price.price),
)


def run(names: Sequence[str], *, root: Path, results: Path) -> None:
    """Run the named rows of the bars (all of them: ``all``), one run per seed, and write each into its ledger.

    Of the results nothing changes but the ledger of the row's experiment, the pages that show it, and its drawings.

    Args:
        names: of rows, or ``all`` alone.

    """
    bars = load_bars(results)
    for name in runs_first(bars) if list(names) == ["all"] else names:
        if name not in bars:
            raise UserError(
                f"a row stands in the bars before it is run; {name!r} does not; nearest: {nearest(name, bars)}"
            )
        row = record(name, _runs(bars[name], bars, root, results), bars, results)
        print(line(row), flush=True)
        # A row that stands above this one is wrong from now on, and its page says so.
        write_pages(results, {bars[name].family, *(one.family for one in bars.values() if one.above == name)})
        write_drawings(results, name)


def write_pages(results: Path, families: set[str] | None = None) -> None:
    """The pages that are generated from the ledger, the index and those of the families (default: all)."""
    for path, text in pages(load(results), load_bars(results), results, families).items():
        write_changed(path, text)


def write_drawings(results: Path, row: str | None = None) -> None:
    """The pictures that show a row (default: all pictures)."""
    rows = load(results).rows
    for name, shows, draw in DRAWINGS:
        if row is None or shows(row):
            drawn = draw(rows)
            if drawn is not None:
                write_changed(results / name, drawn)


def show(results: Path, *, check: bool, missed: bool, root: Path = Path("runs")) -> int:
    """Print the ledger and write its files as they should be; with ``check`` print what is wrong with it instead.

    Exit status 1 for what is wrong; results of runs that are still below `root` are compared too.

    Args:
        check: compute everything again, and compare with git and with the runs at hand.
        missed: with ``check``: a missed bar fails too.

    """
    bars, ledger = load_bars(results), load(results)
    for row in ledger.rows:
        print(line(row))
    if not check:
        save(ledger, bars, results)  # each row in the folder of its entry
        write_pages(results)
        write_drawings(results)
        return 0
    found = problems(ledger, bars, results, root, missed=missed)
    for problem in found:
        print(problem)
    print(f"{len(ledger.rows)} rows, {sum(p.fails for p in found)} wrong, {len(ledger.unproven)} unproven")
    return int(any(problem.fails for problem in found))


def problems(ledger: Ledger, bars: Mapping[str, Entry], results: Path, root: Path, *, missed: bool) -> list[Problem]:
    """Everything that is wrong with, or unproven about, a results folder.

    Args:
        ledger: all its rows, as `load` reads them.
        bars: all its entries, by row.
        results: the folder, for its choices, its pages and its history.
        root: where folders of runs may still lie; those that do are compared.
        missed: whether a missed bar is a problem.

    """
    found = check_rows(ledger, bars, missed=missed) + check_selections(ledger, bars, results)
    for row, folder in ledger.places.items():
        if row in bars and folder != bars[row].experiment:
            rule = f"a row lies with its entry, in {bars[row].experiment}"
            found.append(Problem(row, "wrong", f"{rule}; got {folder}; python -m tasks ledger moves it"))
    made = pages(ledger, bars, results)
    for path in sorted(made.keys() | set(results.glob("*/README.md"))):
        if path not in made:
            found.append(Problem(str(path), "page", "a page has rows; no bars are of this family; remove it"))
        elif not path.exists() or path.read_text(encoding="utf-8") != made[path]:
            rule = "a page is what its rows make of it; this one is not; python -m tasks ledger writes it"
            found.append(Problem(str(path), "page", rule))
    return found + check_runs(ledger, root) + check_history(ledger, bars, results)


def reproduce(name: str, *, root: Path, results: Path) -> int:
    """Run a row anew in a folder of its own and print the ledger's figure beside the new one.

    Args:
        name: of a row.

    """
    bars, ledger = load_bars(results), load(results)
    old = ledger.row(name)
    if old is None:
        known = [row["row"] for row in ledger.rows]
        raise UserError(f"reproduce needs a row of the ledger; got {name!r}; nearest: {nearest(name, known)}")
    again = Ledger()
    for needed in (bars[name].above, name):
        if needed is not None:
            again.rows.append(make_row(needed, _runs(bars[needed], bars, root, results), bars, again))
    new = again.rows[-1]
    print(f"ledger      {line(old)}\nreproduced  {line(new)}")
    return int(old["verdict"] != new["verdict"])


def line(row: Row) -> str:
    """A row of the ledger as one line of text: its id, mean and spread, bar and verdict."""
    bar = "" if row["bar"] is None else f", bar {Bar(**row['bar'])}: {row['verdict']}"
    return f"{row['row']}: {ours(row)} over seeds {row['seeds']}{bar}"


def _runs(entry: Entry, bars: Mapping[str, Entry], root: Path, results: Path) -> list[Path]:
    """The folders of the entry's runs, one per seed: run, or found finished."""
    folders, known = [], run_digests(entry, bars)
    for seed in entry.seeds:
        given = entry.overrides_of(seed)
        command = ["python", "-m", "tasks", "train", *given]
        folders.append(execute(compose(given), root=root, command=command, results=results, bars=known))
    return folders
