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
    """One number of a result: its key, its heading with the unit, and how it is written."""

    key: str
    heading: str
    show: Callable[[Any], str]


COLUMNS = (
    Column("accuracy", "accuracy, %", percent),
    Column("forgetting", "forgetting, %", percent),
    Column("parameters_per_task", "parameters per task", count),
    Column("bytes_per_task", "bytes per task", count),
    Column("parameters_shared", "parameters shared", count),
    Column("seconds", "seconds", seconds),
)


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

    results: one dict per run, with `title`, `role`, `trained` and the keys of COLUMNS.
    """
    head = ["method", "trained", *(column.heading for column in COLUMNS)]
    groups = [
        [
            [ascii_only(str(results[i]["title"])), ascii_only(str(results[i]["trained"]))]
            + [column.show(results[i][column.key]) for column in COLUMNS]
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
