"""Whether the ledger is what runs wrote: everything that can be computed again is computed again.

Args:
    ledger: all rows of the results folder.
    bars: all entries, by row.
    results: the results folder.

"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.errors import UserError, nearest
from tasks.ledger import proof, selection
from tasks.ledger.entry import Bar, Entry, Form
from tasks.ledger.ledger import held_to, sealed
from tasks.ledger.metric import number
from tasks.ledger.store import Ledger, Row
from tasks.runs.files import file_digest, read_json

Class = Literal["seal", "changed", "unknown", "wrong", "selection", "page", "history", "run", "missed", "absent"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row.

    Args:
        row: its id; the results folder where it is about no row.
        kind: which rule is broken.
        text: what is wrong and what to do, in a line.
        fails: whether a check that finds it fails.

    """

    row: str
    kind: Class
    text: str
    fails: bool = True

    def __str__(self) -> str:
        return f"{self.row}: {self.text}"


def check(ledger: Ledger, bars: Mapping[str, Entry], *, missed: bool = False) -> list[Problem]:
    """What is wrong with rows beside their bars, from both alone.

    Args:
        missed: missed bars are problems too.

    """
    problems = []
    for row in ledger.rows:
        name = row["row"]
        if not sealed(row):
            problems.append(Problem(name, "seal", "no run wrote this row as it stands; run it again"))
        elif name not in bars:
            problems.append(Problem(name, "unknown", f"the bars have no such row; nearest: {nearest(name, bars)}"))
        elif row.get("entry_sha256") != bars[name].sha256:
            problems.append(Problem(name, "changed", "its entry in the bars changed after its run; run it again"))
        elif bars[name].above and row["beside"] != _mean_of(str(bars[name].above), ledger):
            problems.append(Problem(name, "changed", f"the row {bars[name].above} changed after its run; run it again"))
        elif wrong := _wrong(row, bars[name]):
            problems.append(Problem(name, "wrong", f"{wrong}; run it again"))
        elif missed and row["verdict"] == "missed":
            problems.append(Problem(name, "missed", f"got {row['mean']:.4g}, the bar is {bars[name].bar}"))
    counts = Counter(row["row"] for row in ledger.rows)
    twice = [name for name, count in sorted(counts.items()) if count > 1]
    problems += [Problem(name, "seal", "no run writes a row twice; remove both and run it again") for name in twice]
    for name, entry in bars.items():
        if entry.not_run and name in counts:
            problems.append(Problem(name, "absent", "its entry says not_run and the ledger has it; take not_run out"))
        elif name not in counts and not entry.not_run:
            text = "the ledger lacks this row; run it, restore it from git, or say `not_run: REASON` in its entry"
            problems.append(Problem(name, "absent", text))
        elif name not in counts:
            problems.append(Problem(name, "absent", f"not run: {entry.not_run}", fails=False))
    return problems


def check_selections(ledger: Ledger, bars: Mapping[str, Entry], results: Path) -> list[Problem]:
    """Rows whose quoted choice is not that of the selection file of their experiment."""
    found = []
    for row in ledger.rows:
        if row["row"] not in bars:
            continue
        text = _selection(row, selection.file(results, bars[row["row"]].experiment))
        if text:
            found.append(Problem(row["row"], "selection", text, "proof" in row or row["selection"] is not None))
    return found


def check_history(ledger: Ledger, bars: Mapping[str, Entry], results: Path) -> list[Problem]:
    """What git has against the ledger, or can't show; that fails for rows that were to bring their proof with them."""
    known = [row for row in ledger.rows if row["row"] in bars]
    found = [problem for row in known if (problem := _recorded(row, bars[row["row"]]))]
    history = proof.History.of(results)
    if history is None:
        text = "the results are in no checkout of this code; git proves nothing of them here"
        return [*found, Problem(str(results), "history", text, fails=False)]
    history.read(proof.wanted(known, bars, history))
    for row in known:
        name = row["row"]
        reasons, notes = proof.unproven(row, bars[name], history), ledger.unproven.get(name, [])
        if "proof" in row or not history.shallow:
            found += _compared(name, reasons, notes, "proof" in row, history.shallow)
    changed = proof.changed_numbers(ledger.rows, bars, history)
    found += [Problem(name, "history", text) for name, text in changed.items()]
    if history.shallow:
        text = "a shallow clone: older rows and bars were not looked up; git fetch --unshallow"
        found.append(Problem(str(results), "history", text, fails=False))
    return found


def check_runs(ledger: Ledger, root: Path) -> list[Problem]:
    """Rows that differ from the results of their runs, for those whose folders are still below `root`."""
    folders = {path.parent.name.rpartition("-")[2]: path.parent for path in root.glob("*/result.json")}
    found = []
    for row in ledger.rows:
        for run in row["runs"]:
            folder = folders.get(run["config_hash"])
            if folder is not None and (text := _differs(row, run, folder)):
                found.append(Problem(row["row"], "run", text))
    return found


def _mean_of(row_id: str, ledger: Ledger) -> float | None:
    row = ledger.row(row_id)
    return None if row is None else float(row["mean"])


def _wrong(row: Row, entry: Entry) -> str:
    """What a row says that does not follow from its values and its entry; '' where all does."""
    values, form = row["values"], Form(row["experiment"], tuple(row["overrides"]), row["metric"])
    if form not in (entry.form, entry.was):
        return f"its experiment, overrides and metric must be those of its entry; got {form}"
    if ("proof" in row) != all("bars" in run for run in row["runs"]):
        return "a row and its runs bring their proof together; got one without the other"
    expected = {"seeds": list(entry.seeds), "bar": held_to(entry)}
    for key, value in expected.items():
        if row[key] != value:
            return f"its {key} must be that of its entry, {value}; got {row[key]}"
    if len(values) != len(entry.seeds) or [run["value"] for run in row["runs"]] != values:
        return f"it must have a value per seed; got {len(values)} for {len(entry.seeds)} seeds"
    if row["mean"] != (mean := statistics.fmean(values)):
        return f"the mean of its values is {mean!r}; got {row['mean']!r}"
    spread = statistics.stdev(values) if len(values) > 1 else None
    if not _close(row["spread"], spread):
        return f"the spread of its values is {spread!r}; got {row['spread']!r}"
    bar = Bar(**row["bar"]) if row["bar"] else None
    verdict = "no bar" if bar is None else "held" if bar.holds(mean, row.get("beside")) else "missed"
    if row["verdict"] != verdict:
        return f"its verdict is {verdict!r}; got {row['verdict']!r}"
    return ""


def _close(one: float | None, other: float | None) -> bool:
    """Equal but for the last digits, which differ between versions of Python's statistics."""
    return one == other or (one is not None and other is not None and math.isclose(one, other, rel_tol=1e-12))


def _selection(row: Row, path: Path) -> str:
    quoted = row["selection"]
    if quoted is None:
        return f"its run quotes no choice, and {path.parent.name}/{path.name} has one" if path.exists() else ""
    if not path.exists():
        return f"it quotes a choice; {path} is not there; restore it from git"
    if "sha256" in quoted and quoted["sha256"] != file_digest(path):
        return f"{path} was changed after its run; restore it from git or run it again"
    made = read_json(path)
    for key in selection.KEPT:
        if not (selection.same(made[key], quoted[key]) if key == "choice" else made[key] == quoted[key]):
            return f"{path} has another {key} than it quotes; restore it from git or run it again"
    if quoted["follows"] != selection.follows(row["config"], quoted["choice"]):
        return f"whether it follows its choice must be {not quoted['follows']}; got {quoted['follows']}; run it again"
    return ""


def _recorded(row: Row, entry: Entry) -> Problem | None:
    """A run that did not know its bar from its start."""
    if row.get("proof") is None or all(run.get("bars", {}).get(entry.row) == entry.sha256 for run in row["runs"]):
        return None
    return Problem(entry.row, "changed", "its runs began with another bar or with none; run it again")


def _compared(name: str, reasons: list[str], notes: list[str], proven: bool, shallow: bool) -> list[Problem]:
    """What git can't show of a row, against what the ledger says of it."""
    remedy = "git fetch --unshallow" if shallow else "commit bars and code, then run it again"
    if proven:
        return [Problem(name, "history", f"{reason}; {remedy}") for reason in reasons]
    if reasons != notes:
        text = (
            f"git says of this row: {'; '.join(reasons) or 'proven'}; its ledger says: {'; '.join(notes) or 'proven'}"
        )
        return [Problem(name, "history", f"{text}; restore the ledger from git")]
    return [Problem(name, "history", f"unproven: {reason}", fails=False) for reason in reasons]


def _differs(row: Row, run: Mapping[str, Any], folder: Path) -> str:
    if file_digest(folder / "result.json") != run["result_sha256"]:
        return ""  # the same config has run again since
    try:
        value = number(read_json(folder / "result.json"), row["metric"])
    except UserError as error:
        return f"{error} ({folder})"
    if value == run["value"]:
        return ""
    return f"{folder} has {value!r} for seed {run['seed']}; got {run['value']!r}; run it again"
