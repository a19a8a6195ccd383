"""The ledger as pages of Markdown, generated and never typed: an index, and a page per family of experiments."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.ledger import selection
from tasks.ledger.check import Problem, check, check_selections
from tasks.ledger.entry import Entry
from tasks.ledger.store import Ledger, Row
from tasks.report.interval import interval
from tasks.runs.files import read_json

HEADER = ("row", "ours", "seeds", "bar", "verdict", "published", "source", "command", "commit")
COUNTS = ("held", "missed", "no bar", "not valid", "unproven", "one seed")
NAME = "README.md"


def pages(
    ledger: Ledger, bars: Mapping[str, Entry], results: Path, families: Iterable[str] | None = None
) -> dict[Path, str]:
    """The text of each page by its path: the index, and a page for each of the families.

    Args:
        ledger: all rows of the results folder.
        bars: all entries, by row.
        results: the results folder, for its choices.
        families: first parts of experiments' names; None for all.

    """
    wrong = [problem for problem in check(ledger, bars) if problem.fails]
    quoted = [problem for problem in check_selections(ledger, bars, results) if not problem.fails]
    chosen = {path.parent.relative_to(results).as_posix(): read_json(path) for path in results.rglob(selection.NAME)}
    edges = {name: at for name, made in sorted(chosen.items()) if (at := edge(made))}
    made = {results / NAME: render_index(ledger, bars, edges, wrong)}
    for family in sorted({entry.family for entry in bars.values()} if families is None else set(families)):
        own = {name: entry for name, entry in bars.items() if entry.family == family}
        ends = {name: text for name, text in edges.items() if name.split("/")[0] == family}
        problems = [problem for problem in [*wrong, *quoted] if problem.row in own]
        made[results / family / NAME] = render(ledger, own, ends, problems)
    return made


def edge(selection: Mapping[str, Any]) -> str:
    """The choices of a selection file that stand at the end of their grid; '' where none does."""
    return ", ".join(f"{key}={selection['choice'][key]}" for key, stands in selection.get("edge", {}).items() if stands)


def render_index(
    ledger: Ledger, bars: Mapping[str, Entry], edges: Mapping[str, str], wrong: Sequence[Problem] = ()
) -> str:
    """A line per experiment: how many of its rows held their bar, missed it, and what is to be known about the others.

    Args:
        ledger: all rows of the results folder.
        bars: all entries, by row.
        edges: by experiment, chosen values at the end of their grid.
        wrong: problems of rows, which are not counted as results.

    """
    refused = {problem.row for problem in wrong}
    rows = {row["row"]: row for row in ledger.rows if row["row"] not in refused}
    lines = [
        "# Results",
        "",
        "Generated from the bars and ledgers of the experiments, never typed; the numbers stand on the page of each family.",
        "*Unproven*: git does not show that code and bar were committed before the run. *One seed*: no spread, no interval.",
        "*At the edge*: a chosen value that is the last of its grid, so that a better one may lie outside.",
        "",
        _line(("experiment", "rows", *COUNTS, "at the edge")),
        _line(["---"] * (len(COUNTS) + 3)),
    ]
    total = [0] * (len(COUNTS) + 1)
    for experiment in dict.fromkeys(entry.experiment for entry in bars.values()):
        names = [name for name, entry in bars.items() if entry.experiment == experiment]
        found = [rows[name] for name in names if name in rows]
        counts = [len(names), *(sum(row["verdict"] == verdict for row in found) for verdict in COUNTS[:3])]
        counts += [len(names) - len(found), sum(row["row"] in ledger.unproven for row in found)]
        counts += [sum(len(row["seeds"]) == 1 for row in found)]
        total = [one + more for one, more in zip(total, counts, strict=True)]
        link = f"[{experiment}]({experiment.split('/')[0]}/{NAME}#{anchor(experiment)})"
        lines.append(_line([link, *(str(count or "") for count in counts), edges.get(experiment, "")]))
    lines.append(_line(["all", *(str(count) for count in total), f"{len(edges)} experiments"]))
    lines += _section("Wrong with this ledger", [f"- {problem}" for problem in wrong])
    return "\n".join(lines) + "\n"


def render(
    ledger: Ledger, bars: Mapping[str, Entry], edges: Mapping[str, str], problems: Sequence[Problem] = ()
) -> str:
    """The page of one family: a table per experiment with a line for each row of its `bars`, then what is to be known.

    A row that a check refuses shows no number: it would stand beside a bar that it was not held to.

    Args:
        ledger: rows, those of other families too.
        bars: the entries of the family, by row.
        edges: per experiment of the family what was chosen at the end of its grid, as text.
        problems: what checks found in these rows; those that fail are refused.

    """
    refused = {problem.row for problem in problems if problem.fails}
    rows = {row["row"]: row for row in ledger.rows if row["row"] in bars and row["row"] not in refused}
    lines = [
        f"# Results: {next(iter(bars.values())).family}",
        "",
        "Generated from the bars and ledgers of the experiments, never typed. Ours is the mean over the seeds ± their standard",
        "deviation and, in brackets, the 95 % interval of the mean (Student's t); a row of one seed has neither.",
    ]
    for experiment in dict.fromkeys(entry.experiment for entry in bars.values()):
        lines += ["", f"## {experiment}", "", _line(HEADER), _line(["---"] * len(HEADER))]
        lines += [_line(_cells(e, rows.get(name))) for name, e in bars.items() if e.experiment == experiment]
    notes = [f"- {entry.title}: {text}" for name, entry in bars.items() for text in _notes(entry, rows.get(name))]
    doubts = [f"- {name}: {'; '.join(ledger.unproven[name])}" for name in rows if name in ledger.unproven]
    doubts += [f"- {problem}" for problem in problems if not problem.fails]
    lines += _section("Notes", notes)
    lines += _section("Choices at the edge of their grid", [f"- {name}: {text}" for name, text in edges.items()])
    lines += _section("Unproven", doubts)
    lines += _section("Wrong with this ledger", [f"- {problem}" for problem in problems if problem.fails])
    return "\n".join(lines) + "\n"


def anchor(title: str) -> str:
    """A heading as GitHub links to it."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def ours(row: Row) -> str:
    """Mean ± standard deviation and the 95 % interval of the mean, all in the unit of the metric."""
    ends = interval(row["values"])
    if ends is None or row["spread"] is None:
        return f"{row['mean']:.4g}"
    return f"{row['mean']:.4g} ± {row['spread']:.2g} [{ends[0]:.4g}, {ends[1]:.4g}]"


def _cells(entry: Entry, row: Row | None) -> list[str]:
    bar = "" if entry.bar is None else str(entry.bar)
    if row is None:
        reason = f"not run: {entry.not_run}" if entry.not_run else "no valid run"
        return [entry.title, reason, "", bar, "", "", "", "", ""]
    published = row["published"] or {}
    value = f"{published['value']:.4g}" if published else ("dropped" if row["published_dropped"] else "")
    command = f"`{row['command']}`"
    if entry.was:
        command += f", now: `{shlex.join(['python', '-m', 'tasks', 'train', *entry.overrides_of(row['seeds'][0])])}`"
    return [
        entry.title,
        ours(row),
        ", ".join(str(seed) for seed in row["seeds"]),
        bar,
        row["verdict"],
        value,
        published.get("source", ""),
        command,
        ", ".join(dict.fromkeys(_commit(run) for run in row["runs"])),
    ]


def _commit(run: Row) -> str:
    return str(run["commit"])[:10] + ("+dirty" if run["dirty"] else "") + ("+resumed" if run["resumed"] else "")


def _notes(entry: Entry, row: Row | None) -> list[str]:
    """What does not fit in a cell."""
    published = entry.published
    texts = [entry.note, f"published: {published.note}" if published is not None and published.note else ""]
    if row is not None:
        data = row["data"]
        texts.append(row["published_dropped"] and f"published value dropped, {row['published_dropped']}")
        texts.append(f"data: {data['substitute']}" if data["substitute"] and not row["published_dropped"] else "")
        texts.append(f"metric `{row['metric']}`, now: `{entry.metric}`" if row["metric"] != entry.metric else "")
    return [text for text in texts if text]


def _section(title: str, items: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *items] if items else []


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
