"""What the report shows, in reading order; a part without data is not there."""

from collections.abc import Callable, Sequence

from tasks.report.curves import learning
from tasks.report.panels import Section
from tasks.report.read import Run

Draw = Callable[[Sequence[Run], Sequence[str]], Sequence[Section]]
"""Runs and their names to what can be drawn of them: no section, one or more. A measure has one, and a family may."""


def sections(runs: Sequence[Run], names: Sequence[str], draws: Sequence[Draw]) -> list[Section]:
    """Every part that these runs have something to show for: learning curves, then what is drawn, in its order.

    Args:
        runs: the finished runs.
        names: one per run.
        draws: of families and measures.

    """
    found: dict[str, Section] = {}
    for draw in (learning, *draws):
        found |= {section.key: section for section in draw(runs, names)}
    return list(found.values())
