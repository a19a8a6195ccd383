"""The result table: its columns, how a number is written, and the table as plain text for a terminal."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def percent(value: float | None) -> str:
    """A share in [0, 1] in per cent with two decimals; None is a dash."""
    return "-" if value is None else f"{100 * value:.2f}"


def count(value: int | None) -> str:
    """A whole number with thousands apart; None is a dash."""
    return "-" if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """Seconds with one decimal; None is a dash."""
    return "-" if value is None else f"{value:,.1f}"


@dataclass(frozen=True)
class Column:
    """One number of a result.

    Args:
        heading: with the unit.
        of: from the content of result.json to the number, or None where it was not measured.
        show: how the number is written; None is a dash.

    """

    heading: str
    of: Callable[[Mapping[str, Any]], Any]
    show: Callable[[Any], str]


def headline(value: float, metric: str) -> str:
    """A headline number: accuracies in per cent, anything else with four digits."""
    return percent(value) if metric == "accuracy" else f"{value:.4g}"


def columns(results: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns of a table of these results; where they measure different things the first says which."""
    metrics = list(dict.fromkeys(str(r["metric"]) for r in results))
    one = metrics[0] if len(metrics) == 1 else None

    def shown(result: Any) -> str:
        text = headline(result["value"], result["metric"])
        return text if one is not None else f"{text} ({result['metric']})"

    def cost(key: str) -> Callable[[Mapping[str, Any]], Any]:
        return lambda result: (result["costs"] or {}).get(key)

    first = Column("accuracy, %" if one == "accuracy" else one or "result", lambda result: result, shown)
    lost = Column("forgetting, %", lambda r: (r["measures"].get("matrix") or {}).get("forgetting"), percent)
    forgets = [lost] if any(lost.of(result) is not None for result in results) else []
    return [
        first,
        *forgets,
        Column("parameters per task", cost("parameters_per_task"), count),
        Column("bytes per task", cost("bytes_per_task"), count),
        Column("parameters shared", cost("parameters_shared"), count),
        Column("seconds", lambda r: r["seconds"], seconds),
    ]


def grouped(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[int]]]:
    """Positions of the results by role, modulators first; a role without results is left out."""
    groups = [(role, [i for i, r in enumerate(results) if r["role"] == role]) for role in ("modulator", "bracket")]
    return [(role, members) for role, members in groups if members]


def ascii_only(text: str) -> str:
    """The text in ASCII on one line: accents dropped, anything else that has no ASCII form a question mark."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(plain.encode("ascii", "replace").decode("ascii").split())


def text_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The results in aligned ASCII columns, modulators above a rule and brackets below it.

    results: the content of result.json, one per run.
    """
    shown = columns(results)
    head = ["method", "trained", *(column.heading for column in shown)]
    groups = [
        [
            [ascii_only(str(results[i]["title"])), ascii_only(str(results[i]["trained"]))]
            + [column.show(column.of(results[i])) for column in shown]
            for i in members
        ]
        for _, members in grouped(results)
    ]
    widths = [max(len(row[i]) for row in [head, *(row for group in groups for row in group)]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        words = [cell.ljust(w) for cell, w in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(w) for cell, w in zip(row[2:], widths[2:], strict=True)]
        return "  ".join(words + numbers).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [line(head)]
    for group in groups:
        lines += [rule, *map(line, group)]
    return "\n".join(lines) + "\n"
