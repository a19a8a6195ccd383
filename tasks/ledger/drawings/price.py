"""What a byte of a task buys: accuracy on far tasks against bytes per task, drawn from the rows ``bytes-*`` of the ledger."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.figures import scatter
from tasks.report.svg import document, styles

PREFIX, SIZE = "bytes-", "-size"
LEAST = 2  # points that make a picture


def shows(row: str) -> bool:
    """Whether a row is in this picture."""
    return row.startswith(PREFIX)


def price(ledger: Sequence[Mapping[str, Any]], key: str = "price") -> str | None:
    """An SVG document: every kind whose accuracy and bytes are both in the ledger, bytes in powers of ten; None for fewer than two."""
    means = {str(row["row"]): float(row["mean"]) for row in ledger if shows(str(row["row"]))}
    kinds = [row for row in means if not row.endswith(SIZE) and row + SIZE in means]
    points = sorted((means[row + SIZE], means[row], row.removeprefix(PREFIX).replace("-", " ")) for row in kinds)
    if len(points) < LEAST:
        return None
    named = [(name, size, accuracy) for size, accuracy, name in points]
    looks = styles([name for name, _, _ in named])
    label = "Accuracy on far tasks against bytes per task: " + ", ".join(
        f"{n} {y:.3f} at {x:,.0f}" for n, x, y in named
    )
    axes = ("bytes per task", "test accuracy, mean of five far tasks")
    return document(scatter(key, label, named, [looks[name] for name, _, _ in named], axes, log=True))
