"""What is hidden in a random network, drawn from the ledger: choosing weights against training them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.svg import COLOURS, INK, document, render

# (row, label, whether some weight was trained); from chance to training everything.
CHOICES = (
    ("criteria-initial-signs", "signs of the start, nothing chosen", False),
    ("criteria-final-signs", "signs of trained weights", False),
    ("criteria-large-final-same-sign-init", "mask by criterion, over the start", False),
    ("criteria-large-final-same-sign-constant", "mask by criterion, signs of the start", False),
    ("supermask-bernoulli", "learned mask, Zhou", False),
    ("supermask-threshold", "learned mask, threshold", False),
    ("supermask-edge-popup", "learned mask, edge-popup", False),
    ("supermask-dense-small", "as many weights as a mask keeps, trained", True),
    ("supermask-dense", "all weights trained", True),
)
DENSITIES = {
    0.1: "supermask-edge-popup-10",
    0.3: "supermask-edge-popup-30",
    0.5: "supermask-edge-popup",
    0.7: "supermask-edge-popup-70",
    0.9: "supermask-edge-popup-90",
}
DEPTHS: dict[float, str] = {8: "bn-only-8", 14: "bn-only-14", 20: "bn-only-20", 32: "bn-only-32"}
RANDOM: dict[float, str] = {8: "bn-random-8", 14: "bn-random-14"}


def shows(row: str) -> bool:
    """Whether a row is in this picture."""
    return row in {*(name for name, _, _ in CHOICES), *DENSITIES.values(), *DEPTHS.values(), *RANDOM.values()}


def hidden(ledger: Sequence[Mapping[str, Any]], key: str = "hidden") -> str | None:
    """An SVG document of three panels: how far choices alone reach, over densities, BatchNorm over depths; None without rows."""
    rows = {row["row"]: row for row in ledger}
    chosen = [(rows[name], label, trained) for name, label, trained in CHOICES if name in rows]
    if len(chosen) < 2:
        return None

    def draw(figure: Any) -> None:
        grid = figure.add_gridspec(2, 2, height_ratios=(1.5, 1))
        _bars(figure.add_subplot(grid[0, :]), chosen)
        density, depth = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
        _line(density, rows, DENSITIES, "edge-popup", 0)
        density.set_xlabel("share of weights kept")
        _line(depth, rows, DEPTHS, "BatchNorm alone", 2)
        _line(depth, rows, RANDOM, "as many other weights", 1)
        depth.set_xlabel("depth of a random ResNet")
        depth.legend(fontsize=7.5, frameon=False, loc="center right")

    label = "MNIST: accuracy of masks and signs without training weights, by density, and of BatchNorm alone by depth"
    return document(render(key, label, (7.4, 5.6), draw))


def _bars(ax: Any, chosen: Sequence[tuple[Mapping[str, Any], str, bool]]) -> None:
    places = list(range(len(chosen)))[::-1]
    means = [row["mean"] for row, _, _ in chosen]
    colours = [COLOURS[1] if trained else COLOURS[0] for _, _, trained in chosen]
    ax.barh(places, means, xerr=[row["spread"] or 0.0 for row, _, _ in chosen], color=colours, height=0.7)
    for place, mean in zip(places, means, strict=True):
        inside = mean > 0.15
        ax.text(
            0.01 if inside else mean + 0.01,
            place,
            f"{mean:.3f}",
            va="center",
            fontsize=7.5,
            color="white" if inside else INK,
        )
    ax.set_yticks(places, [label for _, label, _ in chosen])
    ax.set_xlim(0, 1)
    ax.set_xlabel("test accuracy (orange: the sizes of weights were trained)", color=INK)


def _line(ax: Any, rows: Mapping[str, Mapping[str, Any]], places: Mapping[float, str], label: str, look: int) -> None:
    some = {x: rows[name] for x, name in places.items() if name in rows}
    spreads = [row["spread"] or 0.0 for row in some.values()]
    means = [row["mean"] for row in some.values()]
    ax.errorbar(list(some), means, yerr=spreads, marker="o", markersize=4, color=COLOURS[look], label=label, capsize=2)
    ax.set_ylabel("test accuracy")
    ax.grid(color="#e6e8eb", linewidth=0.6)
    ax.set_axisbelow(True)
