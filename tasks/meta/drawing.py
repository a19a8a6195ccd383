"""What heads know after learning many classes one image at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report import figures
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.svg import Look, styles
from tasks.report.table import percent

HEADS = {
    "sgd": "SGD",
    "adam": "Adam",
    "iid": "SGD, images shuffled",
    "ridge": "ridge",
    "means": "class means",
    "slda": "streaming LDA",
}


def streaming(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Test accuracy over the number of classes learned: all runs by SGD, then every head of each run."""
    shown = [i for i, run in enumerate(runs) if run.measure("streaming")]
    if not shown:
        return []
    lines = [
        (names[i], runs[i].measure("streaming")["lengths"], runs[i].measure("streaming")["sgd"]["test_mean"])
        for i in shown
    ]
    looks = [looks_of(runs)[i] for i in shown]
    panels = [Panel("all runs, head by SGD", "", _drawn("streaming", "by SGD", lines, looks))]
    for i in shown:
        found = runs[i].measure("streaming")
        heads = [(label, found["lengths"], found[key]["test_mean"]) for key, label in HEADS.items() if key in found]
        of_heads = list(styles([label for label, _, _ in heads]).values())
        sgd = found["sgd"]
        edge = ", at the edge of its sweep" if sgd["edge"] else ""
        note = (
            f"{_how(found)}SGD at {sgd['rate']:g}{edge}: {percent(sgd['train_mean'][-1])} % of "
            f"the images that it learned, {percent(sgd['test_mean'][-1])} % of others."
        )
        panels.append(
            Panel(names[i], looks_of(runs)[i][0], _drawn(f"heads-{i}", f"of {names[i]}", heads, of_heads), note)
        )
    caption = (
        "Classes never seen in meta-training, learned one image at a time in one pass; then other images of all of them are "
        "asked for. Shuffled images are the ceiling of one pass; ridge, class means and LDA know no order to forget."
    )
    return [Section("streaming", "What is known after so many classes", caption, tuple(panels))]


def _how(measure: Mapping[str, Any]) -> str:
    return f"Order {measure['order']}, fast: {measure['fast']}. " if "order" in measure else ""


def _drawn(
    key: str, of: str, lines: Sequence[tuple[str, Sequence[float], Sequence[float]]], looks: Sequence[Look]
) -> str:
    label = f"Test accuracy over classes learned {of}: " + ", ".join(f"{n} ends at {y[-1]:.3f}" for n, _, y in lines)
    return figures.progress(
        key, label, [(n, list(x), list(y)) for n, x, y in lines], list(looks), ("classes learned", "accuracy")
    )
