"""How well the tasks were learned, and what that took."""

from collections.abc import Sequence

from tasks.report import figures
from tasks.report.figures import known
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run


def matrices(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Accuracy on each task after each task, on one colour scale."""
    shown = [(i, run.result["matrix"]) for i, run in enumerate(runs) if run.result["matrix"]]
    if not shown:
        return None
    scale, axes, looks = (
        figures.span([m for _, m in shown]),
        ("after learning task", "accuracy on task"),
        looks_of(runs),
    )
    panels = [
        Panel(names[i], looks[i][0], figures.heat(f"matrix-{i}", f"Accuracy matrix of {names[i]}", m, scale, axes))
        for i, m in shown
    ]
    bar = figures.scale_bar("matrix-scale", "Colour scale of the accuracy matrices", scale, "accuracy")
    caption = (
        "Accuracy on each task (column) after learning each task (row), all on one colour scale. Grey was not "
        "measured; a single row was measured at the end. A method that forgets pales downwards in its columns."
    )
    return Section("matrices", "Accuracy task by task", caption, (*panels, Panel("Colour scale", "", bar)))


def progress(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Mean accuracy over the tasks learnt so far, one line per run."""
    lines, looks = [], []
    for i, run in enumerate(runs):
        seen = [[v for v in row[: t + 1] if known(v)] for t, row in enumerate(run.result["matrix"] or [])]
        points = [(t + 1, sum(row) / len(row)) for t, row in enumerate(seen) if len(row) == t + 1]
        if len(points) > 1:
            lines.append((names[i], [x for x, _ in points], [y for _, y in points]))
            looks.append(looks_of(runs)[i])
    if not lines:
        return None
    label = "Mean accuracy over the tasks learnt so far: " + ", ".join(f"{n} ends at {y[-1]:.3f}" for n, _, y in lines)
    svg = figures.progress("progress", label, lines, looks, ("tasks learnt", "mean accuracy on them"))
    caption = (
        "Mean accuracy over all tasks learnt so far, for the runs whose matrix says it. "
        "The vertical axis need not start at zero."
    )
    return Section("progress", "Accuracy as tasks arrive", caption, (Panel("", "", svg),))


def learning(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """The training measure of every run over its steps: accuracy where all report it, else the loss."""
    rows = [[r for r in run.metrics if r.get("phase") == "train" and known(r.get("step"))] for run in runs]
    rows = [[r for r in part if known(r.get("accuracy")) or known(r.get("loss"))] for part in rows]
    measure = "accuracy" if all(known(r.get("accuracy")) for part in rows for r in part) else "loss"
    drawn: list[tuple[int, list[figures.Line]]] = []
    for i, part in enumerate(rows):
        tasks = list(dict.fromkeys(r.get("task") for r in part if known(r.get(measure))))
        lines = []
        for task in tasks:
            own = [r for r in part if r.get("task") == task and known(r.get(measure))]
            # Tasks are counted from 1 on the page, from 0 in the files.
            label = f"task {task + 1}" if isinstance(task, int) else "all tasks"
            lines.append((label, [r["step"] for r in own], [r[measure] for r in own]))
        if lines:
            drawn.append((i, lines))
    if not drawn:
        return None
    values = [v for _, lines in drawn for _, _, y in lines for v in y]
    limits = (min(0.0, *values), max(1.0, *values)) if measure == "accuracy" else (0.0, max(values) or 1.0)
    looks = looks_of(runs)
    panels = tuple(
        Panel(
            names[i],
            looks[i][0],
            figures.curves(
                f"curve-{i}",
                f"Training {measure} of {names[i]} over its steps, {len(lines)} lines",
                lines,
                looks[i],
                ("step", f"training {measure}"),
                limits,
            ),
        )
        for i, lines in drawn
    )
    caption = f"Training {measure} over steps, one line per task, from the first (pale) to the last (full colour)."
    return Section("learning", "Learning curves", caption, panels)


def bits(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Accuracy against what a task takes on disk."""
    shown = [i for i, run in enumerate(runs) if known(run.result.get("bits_per_weight"))]
    if len(shown) < 2:
        return None
    points = [(names[i], runs[i].result["bits_per_weight"], runs[i].result["accuracy"]) for i in shown]
    label = "Accuracy against bits: " + ", ".join(f"{n} {y:.3f} at {x:.2f}" for n, x, y in points)
    looks = [looks_of(runs)[i] for i in shown]
    svg = figures.scatter("bits", label, points, looks, ("bits a weight on disk", "accuracy, task known"))
    caption = (
        "Mean accuracy against what the store keeps for each masked weight of a task, in bits: raw a mask takes one; coded "
        "against its seeded start it takes less, the less training moved it."
    )
    return Section("bits", "Accuracy against bits", caption, (Panel("", "", svg),))
