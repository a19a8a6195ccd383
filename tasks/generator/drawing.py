"""Generators in the report: samples of each class or task, images as they are decoded, and the ways between conditions."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.svg import Look, render

Rows = Sequence[tuple[str, Sequence[Any]]]
"""A name, and images as rows of pixels from 0 to 255, of each row of pictures."""


def conditional(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """What is drawn of conditional generators."""

    def samples(found: Mapping[str, Any]) -> Rows:
        return _dealt(found["classes"], found["samples"])

    def ways(found: Mapping[str, Any]) -> Rows:
        classes = found["classes"]
        between = [(f"{a} to {b}", way) for a, b, way in zip(classes, classes[1:], found["between"], strict=False)]
        return [*between, *((f"{c}, style", way) for c, way in zip(classes, found["styles"], strict=False))]

    said = "Each row is a class, each column a latent vector; nothing is chosen."
    between = "Convex combinations of two conditions at one latent vector: of two classes, then of two noises of one class, its styles."
    return [
        *_section(runs, names, ("samples", samples), ("generated", "Samples of each class", said)),
        *_section(runs, names, ("samples", ways), ("generated-ways", "Between classes and between styles", between)),
    ]


def decoded(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """What is drawn of decoders that are modulated for tasks."""

    def made(found: Mapping[str, Any]) -> Rows:
        both = zip(found["classes"], found["images"], found["made"], strict=True)
        return [row for c, images, made in both for row in ((c, images), ("", made))]

    def samples(found: Mapping[str, Any]) -> Rows:
        classes = found["classes"]
        ways = [(f"{a} to {b}", way) for a, b, way in zip(classes, classes[1:], found["ways"], strict=False)]
        return [*zip(classes, found["samples"], strict=True), *ways]

    said = "Test images of each task, and below them the same as the decoder makes them, their latent vectors found with it as it stands."
    between = (
        "Each row is a task, each column one latent vector on the sphere. Below: one latent vector under convex combinations of what two "
        "tasks have learned."
    )
    return [
        *_section(runs, names, ("decoded", made), ("decoded", "Test images, decoded", said)),
        *_section(
            runs, names, ("decoded", samples), ("decoded-samples", "Samples of each task, and between tasks", between)
        ),
    ]


def mosaic(key: str, label: str, rows: Rows, look: Look) -> str:
    """Rows of images in one picture, dark where pixels are bright, each named at its left.

    Args:
        key: of the drawing.
        label: in words.
        rows: of equally many images of one size.
        look: colour and dash of the run.

    """
    height, width, across = len(rows[0][1][0]), len(rows[0][1][0][0]), len(rows[0][1])

    def draw(figure: Any) -> None:
        from matplotlib.ticker import FixedFormatter, FixedLocator

        ax = figure.add_subplot()
        gap = [0.0] * (across * (width + 1) - 1)
        lines: list[list[float]] = []
        for _, images in rows:
            for y in range(height):
                lines.append([pixel for image in images for pixel in (*image[y], 0.0)][:-1])
            lines.append(gap)
        ax.imshow(lines[:-1], cmap="Greys", vmin=0, vmax=255, interpolation="none")
        ax.yaxis.set_major_locator(FixedLocator([(height + 1) * i + height / 2 for i in range(len(rows))]))
        ax.yaxis.set_major_formatter(FixedFormatter([name for name, _ in rows]))
        ax.set(xticks=[])
        ax.tick_params(length=0)
        ax.spines[:].set(visible=True, color=look[0], linewidth=0.8)

    size = 0.36 * width / max(width, height), 0.36 * height / max(width, height)
    return render(key, label, (size[0] * across + 0.7, size[1] * len(rows) + 0.1), draw)


def _dealt(names: Sequence[str], images: Sequence[Any]) -> Rows:
    """Images in rows of equally many."""
    across = len(images) // len(names)
    return [(name, images[i * across : (i + 1) * across]) for i, name in enumerate(names)]


def _section(
    runs: Sequence[Run], names: Sequence[str], what: tuple[str, Any], words: tuple[str, str, str]
) -> list[Section]:
    """A panel a run that has been measured; none where none has.

    Args:
        runs: the finished runs.
        names: one per run.
        what: name of the measure, and what makes rows of images of it.
        words: key, heading and caption.

    """
    measure, rows = what
    key, heading, caption = words
    panels = []
    for i, run in enumerate(runs):
        if found := run.measure(measure):
            look = looks_of(runs)[i]
            svg = mosaic(f"{key}-{i}", f"{heading}: {names[i]}", rows(found), look)
            panels.append(Panel(names[i], look[0], svg, _note(run)))
    return [Section(key, heading, caption, tuple(panels))] if panels else []


def _note(run: Run) -> str:
    if found := run.measure("generator"):
        return (
            f"The judge ({found['judge']:.3f} of test images right) sees the class asked for in {found['agreement']:.3f} of the samples; "
            f"Frechet distance {found['frechet']:.1f}, of training images {found['frechet_real']:.1f}."
        )
    found = run.measure("decoder") or {}
    errors = found.get("errors", {})
    return "Mean squared error: " + ", ".join(f"{name} {value:.4f}" for name, value in errors.items()) + "."
