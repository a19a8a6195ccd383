"""What a part of the report is made of: panels under a heading, with a caption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.report import figures
from tasks.report.read import Run
from tasks.report.svg import Look, styles


@dataclass(frozen=True)
class Panel:
    """One drawing.

    Args:
        title: the run or thing that it shows.
        colour: of that run's method; '' where it shows several.
        svg: the drawing, inline.
        note: a line below it.

    """

    title: str
    colour: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, the panels under it and the caption that says how to read them.

    Args:
        key: of the section, different from all others; a later one of the same key takes its place.
        heading: of the section.
        caption: how the panels are read.
        panels: in their order.

    """

    key: str
    heading: str
    caption: str
    panels: tuple[Panel, ...]


def looks_of(runs: Sequence[Run]) -> list[Look]:
    """The colour and the dash of every run; runs of one title look alike."""
    by_method = styles([run.title for run in runs])
    return [by_method[run.title] for run in runs]


def grids(
    runs: Sequence[Run],
    names: Sequence[str],
    name: str,
    grids_of: Callable[[Run], list[tuple[str, figures.Grid, str]]],
    axes: tuple[str, str],
    scale: tuple[float, float],
    tasks: tuple[bool, bool] = (True, True),
) -> list[Panel]:  # reason: a drawing's words and scales
    """A heat map for every grid of every run, and their colour scale.

    Args:
        runs: the finished runs.
        names: one per run.
        name: what the numbers are.
        grids_of: a run to (what stands behind the run's name, grid, note) of each of its grids.
        axes: names of rows and columns.
        scale: the values at the ends of the colours.
        tasks: whether rows and columns count tasks.

    """
    panels = []
    key = name.replace(" ", "-")
    for i, run in enumerate(runs):
        for j, (extra, grid, note) in enumerate(grids_of(run)):
            title = f"{names[i]}{extra}"
            size = None if tasks[1] else (6.6, max(1.2, 0.24 * len(grid) + 0.6))
            label = f"{name[0].upper()}{name[1:]} of {title}"
            svg = figures.heat(f"{key}-{i}-{j}", label, grid, scale, axes, size=size, tasks=tasks)
            panels.append(Panel(title, looks_of(runs)[i][0], svg, note))
    if panels:
        bar = figures.scale_bar(f"{key}-scale", f"Colour scale of {name}", scale, name)
        panels.append(Panel("Colour scale", "", bar))
    return panels
