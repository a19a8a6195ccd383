"""The drawings of the report: heat maps, curves and pictures, each returned as an inline SVG string.

Args:
    key: of the drawing, different from all others of a page: ids in the SVG begin with it.
    label: what the drawing shows, in words, for those who hear the page.
    lines: (name, x, y) of each line.
    looks: colour and dash of each line or point.
    look: colour and dash of the one run.
    axes: names of the two axes: of a heat map rows and columns, of others x and y.
    scale: the values at the ends of the colours.
    names: a title per picture.

"""

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

from tasks.report.svg import INK, QUIET, Look, render

Grid = Sequence[Sequence[float | None]]
Line = tuple[str, Sequence[float], Sequence[float]]  # label, x, y
# One hue, from light to dark: the order survives grey print and every kind of colour vision.
RAMP = "Blues"
WRONG = "#b3261e"
MOST_NUMBERS = 10  # a heat map with more columns than this is read by colour alone
MOST_POINTS = 1500  # points of one panel, all lines together; more cannot be seen


def span(grids: Sequence[Grid]) -> tuple[float, float]:
    """The common colour scale of several grids of shares: from the lowest tenth below all of them up to 1."""
    values = [v for grid in grids for row in grid for v in row if known(v)]
    return (min(0.9, math.floor(10 * min(values)) / 10), 1.0) if values else (0.0, 1.0)


def known(value: float | None) -> TypeGuard[float]:
    """Whether a number was measured: neither None nor NaN."""
    return value is not None and math.isfinite(value)


def readable_on(colour: Sequence[float]) -> str:
    """Black or white, whichever has more contrast on a colour (red, green, blue in [0, 1]): 4.5 to 1 at least (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "white"


def _ticks(n: int) -> list[int]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, n) if n <= 10 * s)
    return list(range(0, n, step))


def heat(
    key: str,
    label: str,
    grid: Grid,
    scale: tuple[float, float],
    axes: tuple[str, str],
    *,
    size: tuple[float, float] | None = None,
    tasks: tuple[bool, bool] = (True, True),
) -> str:  # reason: a drawing's words and scales
    """A grid as a heat map, with its numbers where they fit; unmeasured cells stay grey.

    Args:
        grid: rows of numbers; None is not measured, and so is what a shorter row lacks.
        size: width and height in inches; None: by the number of rows.
        tasks: whether rows and columns count tasks, which are numbered from 1.

    """
    rows, columns = len(grid), max(len(row) for row in grid)
    values = [[float(v) if known(v) else math.nan for v in [*row, *[None] * (columns - len(row))]] for row in grid]

    def draw(figure: Any) -> None:
        from matplotlib import colormaps

        ax = figure.add_subplot()
        ramp = colormaps[RAMP].with_extremes(bad="#eceff2")
        ax.imshow(values, cmap=ramp, vmin=scale[0], vmax=scale[1], aspect="auto", interpolation="none")
        ax.set(xlabel=axes[1], xticks=_ticks(columns), yticks=_ticks(rows) if rows > 1 else [])
        ax.set_ylabel(axes[0] if rows > 1 else "")  # one row is the end, whatever the rows count
        ax.set_xticklabels([str(i + tasks[1]) for i in _ticks(columns)])
        ax.set_yticklabels([str(i + tasks[0]) for i in _ticks(rows)] if rows > 1 else [])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        if columns <= MOST_NUMBERS and rows <= MOST_NUMBERS:
            # Thin white lines part the cells, so that neighbours of one colour stay two cells.
            ax.hlines([i - 0.5 for i in range(1, rows)], -0.5, columns - 0.5, colors="white", linewidth=1.2)
            ax.vlines([i - 0.5 for i in range(1, columns)], -0.5, rows - 0.5, colors="white", linewidth=1.2)
            for i, row in enumerate(values):
                for j, v in enumerate(row):
                    if math.isfinite(v):
                        colour = readable_on(ramp((v - scale[0]) / (scale[1] - scale[0])))
                        text = f"{v:.2f}".removeprefix("0") if abs(v) < 1 else f"{v:.2f}"
                        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)

    height = min(3.0, 0.75 + 0.42 * rows) if rows < 5 else 2.6
    return render(key, label, size or (2.9, height), draw)


def scale_bar(key: str, label: str, scale: tuple[float, float], name: str, ramp: str = RAMP) -> str:
    """The colour scale that several heat maps share, as a flat bar.

    Args:
        name: of what the colours mean.
        ramp: a colour map of matplotlib.

    """

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        ax.imshow([[i / 63 for i in range(64)]], cmap=ramp, aspect="auto", extent=(*scale, 0, 1), interpolation="none")
        ax.set(yticks=[], xlabel=name)
        ax.spines[:].set_visible(False)

    return render(key, label, (2.9, 0.62), draw)


def _spread(heights: list[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved apart to at least `gap`, in their order, kept between `low` and `high` as far as they fit."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    floor = low
    for i in order:
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def shorten(text: str, most: int = 40) -> str:
    """A text of at most ``most`` characters, its end cut off."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def progress(key: str, label: str, lines: Sequence[Line], looks: Sequence[Look], axes: tuple[str, str]) -> str:
    """One line per run in its method's colour and dash, named at its end instead of in a legend."""

    def draw(figure: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        ax = figure.add_subplot()
        lowest = min(min(y) for _, _, y in lines)
        low, high = max(0.0, lowest - 0.05), 1.0
        ax.set(ylim=(low, high + 0.01), xlabel=axes[0], ylabel=axes[1])
        first, last = min(x[0] for _, x, _ in lines), max(x[-1] for _, x, _ in lines)
        ax.xaxis.set_major_locator(MaxNLocator(integer=last > 1))
        ax.grid(axis="y", color="#e6e8eb", linewidth=0.6)
        ax.set_axisbelow(True)
        gap = (high - low) * 0.07
        places = _spread([y[-1] for _, _, y in lines], gap, low + gap / 2, high)
        width = max(last - first, 1 if last > 1 else 0.1)
        for (name, x, y), (colour, dash), place in zip(lines, looks, places, strict=True):
            ax.plot(x, y, color=colour, linestyle=dash, marker="o" if last <= 20 else "", markersize=2.6)
            ax.plot(
                [x[-1], last + 0.035 * width, last + 0.06 * width],
                [y[-1], place, place],
                color=colour,
                linewidth=0.7,
                clip_on=False,
            )
            ax.text(last + 0.07 * width, place, shorten(name), va="center", color=INK, fontsize=8)
        ax.set_xlim(first - 0.02 * width, last + 0.02 * width)

    return render(key, label, (7.4, max(2.9, 0.22 * len(lines) + 0.9)), draw)


def curves(
    key: str,
    label: str,
    lines: Sequence[Line],
    look: Look,
    axes: tuple[str, str],
    limits: tuple[float, float],
) -> str:
    """One run's measure over its steps, a line per task from pale to full colour, first and last named.

    Args:
        limits: lower and upper end of y.

    """
    keep = max(8, MOST_POINTS // len(lines))

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        ax.set(xlabel=axes[0], ylabel=axes[1])
        margin = 0.03 * (limits[1] - limits[0])
        ax.set_ylim(limits[0] - margin, limits[1] + margin)
        ax.grid(axis="y", color="#e6e8eb", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.locator_params(axis="x", nbins=5)
        for i, (_, x, y) in enumerate(lines):
            thin = max(1, math.ceil(len(x) / keep))
            # The last point is what the table reports, so thinning never drops it.
            picked = sorted({*range(0, len(x), thin), len(x) - 1})
            strength = 1.0 if len(lines) == 1 else 0.35 + 0.65 * i / (len(lines) - 1)
            mark = "o" if len(picked) == 1 else ""  # one point makes no line
            shown = [x[j] for j in picked], [y[j] for j in picked]
            ax.plot(*shown, color=look[0], alpha=strength, linewidth=1.1, marker=mark, markersize=3)
        named = sorted({0, len(lines) - 1})
        right = max(x[-1] for _, x, _ in lines)
        name, x, y = lines[0]
        # Lines of tasks learnt one after another end at different steps: the first is named below itself, where there is room.
        if x[-1] < lines[-1][1][0]:
            named = named[1:]
            below = min(*y, *lines[1][2]) - 0.08 * (limits[1] - limits[0])
            if x[-1] - x[0] > 0.15 * right and below > limits[0]:
                ax.annotate(name, ((x[0] + x[-1]) / 2, below), ha="center", va="center", fontsize=7.5)
        places = _spread([lines[i][2][-1] for i in named], 0.1 * (limits[1] - limits[0]), *limits)
        for i, place in zip(named, places, strict=True):
            ax.annotate(lines[i][0], (right, place), (4, 0), textcoords="offset points", va="center", fontsize=7.5)

    return render(key, label, (3.05, 2.05), draw)


def pictures(
    key: str,
    label: str,
    images: Sequence[Grid],
    names: Sequence[str],
    scale: tuple[float, float],
    *,
    marked: Sequence[bool] = (),
) -> str:
    """Images or masks in one row or more: the darker, the larger the value.

    Args:
        images: grids of numbers.
        marked: pictures in a heavy frame, one bool each; the rest has a light one.

    """
    across = min(len(images), 8)
    down = math.ceil(len(images) / across)

    def draw(figure: Any) -> None:
        grid = figure.subplots(down, across, squeeze=False)
        for i, ax in enumerate(grid.flat):
            ax.set_axis_off()
            if i < len(images):
                ax.imshow(images[i], cmap="Greys", vmin=scale[0], vmax=scale[1], interpolation="none")
                heavy = i < len(marked) and marked[i]
                ax.set_title(names[i], fontsize=8, color=WRONG if heavy else INK, pad=3)
                # A frame shows where a picture ends whose border is white.
                look = {"color": WRONG if heavy else QUIET, "linewidth": 2.0 if heavy else 0.5}
                ax.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], transform=ax.transAxes, clip_on=False, **look)

    return render(key, label, (1.05 * across, 1.25 * down), draw)


def _powers(ax: Any, values: Sequence[float]) -> None:
    """An x axis in powers of ten, numbers written out; within a decade, where there is one power at most, between powers too."""
    narrow = max(values) < 10 * min(values)
    ax.set_xscale("log", subs=(2, 3, 5, 7) if narrow else None)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    ax.xaxis.set_minor_formatter(lambda x, _: f"{x:,.0f}" if narrow else "")


def scatter(
    key: str,
    label: str,
    points: Sequence[tuple[str, float, float]],
    looks: Sequence[Look],
    axes: tuple[str, str],
    *,
    log: bool = False,
) -> str:
    """Points (name, x, y) in their methods' colours, each named beside it.

    Args:
        points: (name, x, y) of each.
        log: x in powers of ten; all x are above 0.

    """

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        ax.set(xlabel=axes[0], ylabel=axes[1])
        if log:
            _powers(ax, [x for _, x, _ in points])
        ax.grid(color="#e6e8eb", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.margins(0.08, 0.12)
        for (_, x, y), (colour, _) in zip(points, looks, strict=True):
            ax.plot([x], [y], marker="o", color=colour, markersize=5)
        low, high = ax.get_ylim()
        places = _spread([y for _, _, y in points], 0.06 * (high - low), low, high)
        right = max(x for _, x, _ in points)
        for (name, x, y), (colour, _), place in zip(points, looks, places, strict=True):
            ax.plot([x, right], [y, place], color=colour, linewidth=0.5, alpha=0.6)
            text = shorten(name)
            ax.annotate(text, (right, place), (6, 0), textcoords="offset points", va="center", fontsize=8, color=INK)

    return render(key, label, (7.4, max(2.9, 0.24 * len(points) + 0.9)), draw)
