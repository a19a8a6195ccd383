"""The trade-off between accuracy and task inference, drawn from the rows ``tradeoff-*`` of the ledger."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.report.figures import known
from tasks.report.svg import COLOURS, INK, document, render

PREFIX, KNOWN = "tradeoff-", "-known"


class Curve(NamedTuple):
    """One measure of every recipe: the end of its rows' names, its label, marker and fill."""

    row: str
    label: str
    marker: str
    full: bool = True


PANELS: tuple[tuple[str, tuple[Curve, ...]], ...] = (
    (
        "task of one image found",
        (
            Curve("margin", "every mask tried, margin", "s", False),
            Curve("first", "one gradient, first layer", "^"),
            Curve("one-shot", "one gradient", "o"),
        ),
    ),
    (
        "lead of the true task, deviations",
        (Curve("margin-lead", "every mask tried, margin", "s", False), Curve("lead", "one gradient", "o")),
    ),
    (
        "largest probability of the output",
        (Curve("sure", "under the own mask", "s", False), Curve("sure-other", "under another mask", "o")),
    ),
    (
        "bits of the mask",
        (Curve("bits", "on disk, per weight", "s", False), Curve("flipped", "moved from the start", "o")),
    ),
)


def recipes(ledger: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The recipes whose known-task accuracy is in the ledger, least accurate first: the stem of their rows, and a name."""
    rows = [row for row in ledger if row["row"].startswith(PREFIX) and row["row"].endswith(KNOWN)]
    stems = {row["row"].removesuffix(KNOWN): row["mean"] for row in rows}
    return {stem: _name(stem) for stem in sorted(stems, key=lambda stem: stems[stem])}


def shows(row: str) -> bool:
    """Whether a row is in this picture."""
    return row.startswith(PREFIX)


def tradeoff(ledger: Sequence[Mapping[str, Any]], key: str = "tradeoff") -> str | None:
    """An SVG document of four panels over the known-task accuracy of every recipe; None without two recipes."""
    means = {row["row"]: row["mean"] for row in ledger}
    chosen = recipes(ledger)
    if len(chosen) < 2:
        return None

    def draw(figure: Any) -> None:
        axes = figure.subplots(2, 2, sharex=True)
        for ax, (label, curves) in zip(axes.flat, PANELS, strict=True):
            _panel(ax, label, curves, means, list(chosen))
        for ax in axes[1]:
            ax.set_xlabel("accuracy, task known")
        top = axes[0][0]
        for stem, name in chosen.items():
            x = means[stem + KNOWN]
            top.annotate(
                name, (x, 1.04), rotation=40, fontsize=7.5, color=INK, annotation_clip=False, ha="left", va="bottom"
            )

    label = "Task inference, lead of the true task, confidence and bits against known-task accuracy"
    return document(render(key, label, (7.4, 5.6), draw))


def _panel(ax: Any, label: str, curves: Sequence[Curve], means: Mapping[str, float], stems: Sequence[str]) -> None:
    for curve, colour in zip(curves, COLOURS, strict=False):
        points = [(means[stem + KNOWN], means.get(f"{stem}-{curve.row}")) for stem in stems]
        some = [(x, y) for x, y in points if known(y)]
        ax.plot(
            [x for x, _ in some],
            [y for _, y in some],
            marker=curve.marker,
            color=colour,
            markerfacecolor=colour if curve.full else "white",
            label=curve.label,
            markersize=5,
            linewidth=0.9,
        )
    from matplotlib.ticker import MaxNLocator

    low, high = ax.get_ylim()
    ax.set_ylim(min(0.0, low), high + 0.06 * (high - min(0.0, low)))
    ax.set_ylabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(color="#e6e8eb", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(fontsize=7.5, frameon=False, loc="best")


def _name(stem: str) -> str:
    optimiser, rate = stem.removeprefix(PREFIX).split("-", 1)
    return f"{'RMSprop' if optimiser == 'rmsprop' else 'SGD'} {float(rate):g}"
