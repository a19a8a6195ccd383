"""The ledger as a page of Markdown, generated and never typed."""

from collections.abc import Mapping, Sequence

from tasks.ledger.bars import Entry
from tasks.ledger.ledger import Row, check

HEADER = ("row", "ours", "seeds", "bar", "verdict", "published", "source", "command", "commit")


def render(ledger: Sequence[Row], bars: Mapping[str, Entry]) -> str:
    """The page: a table an experiment, a line for each row of the bars, run or not, then what is wrong with the ledger.

    A row that a check refuses shows no number: it would stand beside a bar that it was not held to.
    """
    wrong = [problem for problem in check(ledger, bars) if problem.fails]
    refused = {problem.row for problem in wrong}
    rows = {row["row"]: row for row in ledger if row["row"] not in refused}
    lines = [
        "# Results",
        "",
        "Generated from ledger.json and bars.yaml; ours is the mean over the seeds +- their spread.",
        "",
    ]
    for experiment in dict.fromkeys(entry.experiment for entry in bars.values()):
        lines += [f"## {experiment}", "", _line(HEADER), _line(["---"] * len(HEADER))]
        lines += [_line(_cells(e, rows.get(name))) for name, e in bars.items() if e.experiment == experiment]
        lines.append("")
    notes = [f"- {entry.title}: {text}" for name, entry in bars.items() for text in _notes(entry, rows.get(name))]
    for title, items in (("Notes", notes), ("Wrong with this ledger", [f"- {problem}" for problem in wrong])):
        if items:
            lines += [f"## {title}", "", *items, ""]
    return "\n".join(lines[:-1]) + "\n"


def _cells(entry: Entry, row: Row | None) -> list[str]:
    bar = "" if entry.bar is None else str(entry.bar)
    if row is None:
        return [entry.title, "no valid run", "", bar, "", "", "", "", ""]
    spread = "" if row["spread"] is None else f" +- {row['spread']:.2g}"
    published = row["published"] or {}
    value = f"{published['value']:.4g}" if published else ("dropped" if row["published_dropped"] else "")
    commits = dict.fromkeys(_commit(run) for run in row["runs"])
    seeds = ", ".join(str(seed) for seed in row["seeds"])
    ours = f"{row['mean']:.4g}{spread}"
    command = f"`{row['command']}`"
    return [
        entry.title,
        ours,
        seeds,
        bar,
        row["verdict"],
        value,
        published.get("source", ""),
        command,
        ", ".join(commits),
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
    return [text for text in texts if text]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
