"""Tickets in the report: error against overparameterisation beside its law, masks, and what a random network weighs pixels with."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report import figures
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.svg import INK, QUIET, Look, render


def sections(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """What is drawn of the runs that found tickets, each kind of picture a section."""
    found = [_accounts(runs, names), _laws(runs, names), _masks(runs, names), _pixels(runs, names)]
    return [section for section in found if section is not None]


def law(key: str, label: str, found: Mapping[str, Any], look: Look) -> str:
    """The median error of a weight over the candidates that it has, with its 99th percentile, beside the law.

    Args:
        key: of the drawing.
        label: in words.
        found: what `tasks.tickets.Drawn` measured as ``ticket_law``.
        look: colour and dash of the run.

    """

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        ax.set(xlabel="candidates of a weight, n", ylabel="error of a weight", yscale="log")
        ax.set_xticks(found["n"])
        ax.grid(axis="y", color="#e6e8eb", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.yaxis.set_major_formatter(_power)
        ax.plot(found["n"], found["median"], color=look[0], linewidth=2.2, marker="o", markersize=4.5)
        ax.plot(found["n"], found["law"], color=INK, linestyle=(0, (1, 1.2)))
        ax.plot(found["n"], found["high"], color=look[0], linewidth=0.8, marker="o", markersize=2, alpha=0.55)
        ends = ("law", INK, "law"), ("median", look[0], "median"), ("high", look[0], "99 of 100 below")
        # The law and the median end together; their names stand above and below one another.
        drop = {"law": 5, "median": -5, "high": 0}
        for name, colour, text in ends:
            at = (found["n"][-1], found[name][-1])
            ax.annotate(text, at, (6, drop[name]), textcoords="offset points", va="center", fontsize=8, color=colour)

    return render(key, label, (5.2, 3.1), draw)


def _power(value: float, _: int) -> str:
    """A tick of a logarithmic axis: no formula, which a page without fonts of mathematics would show as its source."""
    return f"{value:.0e}".replace("e-0", "e-")


def _accounts(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    panels = []
    for i, run in enumerate(runs):
        ticket = run.measure("ticket")
        if not ticket:
            continue
        seen = [("Measured", ticket.get("measured")), ("Certified", ticket.get("certified"))]
        bounds = "".join(f" {name} {value:.2g}." for name, value in seen if value is not None)
        note = (
            f"{ticket['weights']:,} weights in {ticket['frozen']:,} frozen ones, {ticket['kept_per_weight']:.2f} candidates kept per "
            f"weight; {ticket['widened']} weights needed spare units, {ticket['missed']} stay above the tolerance."
            f"{bounds}"
        )
        errors = [ticket["median_error"], ticket["worst_error"]]
        panels.append(
            Panel(names[i], looks_of(runs)[i][0], _bar(f"ticket-{i}", names[i], errors, looks_of(runs)[i]), note)
        )
    caption = (
        "How far the sums of kept candidates are from the weights that they stand for: the median weight and the worst one. Measured is "
        "the largest error of the network at points of the unit ball, certified what it can't exceed anywhere on it."
    )
    return Section("tickets", "What was found in the random network", caption, tuple(panels)) if panels else None


def _bar(key: str, name: str, errors: Sequence[float], look: Look) -> str:
    label = f"Errors of weights of {name}: median {errors[0]:.2g}, worst {errors[1]:.2g}"

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        low, high = (max(error, 1e-18) for error in errors)
        ax.plot([low, high], [0, 0], color=look[0], linewidth=1.2, marker="o", markersize=4)
        ax.set(xscale="log", yticks=[], xlabel="error of a weight: median, worst", ylim=(-1, 1))
        ax.set_xlim(low / 4, high * 4)
        ax.xaxis.set_major_formatter(_power)
        ax.spines["left"].set_visible(False)

    return render(key, label, (3.4, 0.75), draw)


def _laws(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    panels = []
    for i, run in enumerate(runs):
        found = run.measure("ticket_law")
        if found:
            label = f"Error of a weight over n of {names[i]}: slope {found['slope']:.2f} bits a candidate"
            note = f"Median slope {found['slope']:.3f} bits per candidate."
            look = looks_of(runs)[i]
            panels.append(Panel(names[i], look[0], law(f"ticket-law-{i}", label, found, look), note))
    caption = (
        "Each candidate more halves the error: of 2^n sums the nearest is so near. The dotted line is the law "
        "(ln 2 / 2) sqrt(pi n E[p^2]) 2^-n, with nothing fitted. The tail is heavy: few large candidates of one sign leave gaps."
    )
    return Section("ticket-law", "Error against overparameterisation", caption, tuple(panels)) if panels else None


def _masks(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    panels = []
    for i, run in enumerate(runs):
        found = run.measure("ticket_mask")
        if found:
            mask = found["bits"]
            label = f"Mask of {names[i]}: {sum(map(sum, mask)) / len(mask) / len(mask[0]):.2f} of the bits are 1"
            panels.append(Panel(names[i], looks_of(runs)[i][0], _mask(f"ticket-mask-{i}", label, mask)))
    caption = (
        "A corner of the mask over the second layer of the first block: which random units each output reads (dark)."
    )
    return Section("ticket-masks", "Masks of the random network", caption, tuple(panels)) if panels else None


def _mask(key: str, label: str, mask: Sequence[Sequence[int]]) -> str:
    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        ax.imshow(mask, cmap="Greys", vmin=0, vmax=1.4, interpolation="none", aspect="equal")
        ax.set(xlabel="random units", ylabel="outputs", xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=QUIET)

    return render(key, label, (6.6, 6.0 * len(mask) / len(mask[0]) + 0.5), draw)


def _pixels(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    panels = []
    for i, run in enumerate(runs):
        found = run.measure("ticket_pixels")
        if not found:
            continue
        weights = [[[value / 1000 for value in row] for row in picture] for picture in found["weights"]]
        largest = max(abs(value) for picture in weights for row in picture for value in row) or 1.0
        most = max(value for picture in found["kept"] for row in picture for value in row) or 1
        for part, pictures, scale in (
            ("weights", weights, (-largest, largest)),
            ("candidates kept", found["kept"], (0, most)),
        ):
            titles = [f"unit {number + 1}" for number in range(len(pictures))]
            svg = figures.pictures(f"{part.split()[0]}-{i}", f"{part} of {names[i]} by pixel", pictures, titles, scale)
            panels.append(Panel(f"{names[i]}: {part}", looks_of(runs)[i][0], svg))
    caption = (
        "What the first hidden units of the target weigh each pixel with (dark: positive), and how many of the random candidates of "
        "that pixel the mask keeps to make it: about half, and nothing of the digit is left to be seen in the counts."
    )
    return Section("ticket-pixels", "Weights, and what makes them", caption, tuple(panels)) if panels else None
