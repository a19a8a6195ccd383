"""Drawings over the layers of networks, in the manner of `tasks.report.figures`.

Args:
    key: of the drawing, different from all others of a page: ids in the SVG begin with it.
    label: what the drawing shows, in words, for those who hear the page.

"""

from collections.abc import Sequence
from typing import Any

from tasks.report.figures import RAMP, Line, shorten
from tasks.report.svg import Look, render

BINS = 60


def by_layer(key: str, label: str, lines: Sequence[Line], looks: Sequence[Look], measure: str) -> str:
    """A measure over the layers of networks, a line each.

    Args:
        lines: (name, x, y) of each network, x the layers from 1.
        looks: colour and dash of each.
        measure: the name of y.

    """

    def draw(figure: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        ax = figure.add_subplot()
        ax.set(xlabel="layer", ylabel=measure)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y", color="#e6e8eb", linewidth=0.6)
        ax.set_axisbelow(True)
        for (name, x, y), (colour, dash) in zip(lines, looks, strict=True):
            ax.plot(x, y, color=colour, linestyle=dash, marker="o", markersize=3, label=shorten(name))
        top = max(max(y) for _, _, y in lines)
        ax.set_ylim(0, 1.05 * top if top > 0 else 1)
        ax.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

    return render(key, label, (7.4, max(2.2, 0.2 * len(lines) + 0.9)), draw)


def histogram(key: str, label: str, layers: Sequence[Sequence[float]], colour: str, axis: str) -> str:
    """How often values occur: over all layers, and below it layer by layer, darker where more of a layer's values lie.

    Args:
        layers: the values of each layer, from the input to the output.
        colour: of the bars.
        axis: the name of the values.

    """
    values = [v for layer in layers for v in layer]
    low, high = min(values), max(values)
    width = (high - low) / BINS or 1.0
    shares = [[0.0] * BINS for _ in layers]
    for share, layer in zip(shares, layers, strict=True):
        for v in layer:
            share[min(int((v - low) / width), BINS - 1)] += 1 / len(layer)

    def draw(figure: Any) -> None:
        whole, by_layer = figure.subplots(2, 1, sharex=True)
        whole.set(yticks=[])
        whole.hist(values, bins=BINS, range=(low, low + BINS * width), color=colour)
        extent = (low, low + BINS * width, len(layers) + 0.5, 0.5)
        by_layer.imshow(shares, cmap=RAMP, aspect="auto", interpolation="none", extent=extent)
        by_layer.set(xlabel=axis, ylabel="layer", yticks=sorted({1, len(layers)}))

    return render(key, label, (3.05, 3.0), draw)
