"""Described tasks in the report: accuracy against the description, and given rows against bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.svg import QUIET, Look, render

Found = Mapping[str, Any]


def accuracies(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Accuracy of every held-out task, a line a run: against its angle where images are turned, else the distance to what was trained."""
    looks = looks_of(runs)
    shown = [(names[i], run.measure("described"), looks[i]) for i, run in enumerate(runs) if run.measure("described")]
    if not shown:
        return []
    turned = all("turn" in found["changes"] for _, found, _ in shown)
    key, axis = (
        ("degrees", "angle in degrees") if turned else ("distances", "distance to the nearest training description")
    )
    label = "; ".join(f"{name}: {sum(f['accuracies']) / len(f['accuracies']):.3f}" for name, f, _ in shown)

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        for name, found, (colour, dash) in shown:
            points = sorted(zip(found[key], found["accuracies"], strict=True))
            ax.plot(*zip(*points, strict=True), color=colour, linestyle=dash, marker="o", markersize=2.5, label=name)
        ax.set(xlabel=axis, ylabel="test accuracy", ylim=(None, 1.0))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)

    svg = render("described", f"Accuracy of held-out tasks, on average {label}", (6.6, 3.4), draw)
    caption = "Test accuracy of each task that was held out, by what its description says."
    return [Section("described", "Rows from a description", caption, (Panel("", "", svg),))]


def compressed(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Error and accuracy of given rows in hypernetworks of several sizes, a panel a run."""
    looks, panels = looks_of(runs), []
    for i, run in enumerate(runs):
        found = run.measure("compressed")
        if found:
            note = f"Dotted: the rows themselves, {found['rows_bytes']:,} bytes at rest, accuracy {found['rows_accuracy']:.3f}."
            panels.append(Panel(names[i], looks[i][0], _sizes(f"compressed-{i}", names[i], found, looks[i]), note))
    caption = "What is left of given rows in one hypernetwork, against its bytes: the error (1: the start, 0: every row met), and accuracy."
    return [Section("compressed", "Given rows in one hypernetwork", caption, tuple(panels))] if panels else []


def _sizes(key: str, name: str, found: Found, look: Look) -> str:
    sizes = found["sizes"]
    kilobytes = [size["bytes"] / 1000 for size in sizes]
    words = ", ".join(
        f"{b:.0f} kB: error {s['error']:.3f}, {s['accuracy']:.3f}" for b, s in zip(kilobytes, sizes, strict=True)
    )

    def draw(figure: Any) -> None:
        for place, (what, title) in enumerate((("error", "error of rows"), ("accuracy", "test accuracy"))):
            ax = figure.add_subplot(1, 2, place + 1)
            ax.plot(
                kilobytes, [size[what] for size in sizes], color=look[0], linestyle=look[1], marker="o", markersize=4
            )
            if what == "accuracy":
                ax.axhline(found["rows_accuracy"], color=QUIET, linewidth=1, linestyle=":")
            ax.axvline(found["rows_bytes"] / 1000, color=QUIET, linewidth=1, linestyle=":")
            ax.set(xlabel="kilobytes", ylabel=title, xlim=(0, None))

    return render(key, f"{name}: {words}", (6.6, 2.6), draw)
