"""How well the tasks were learned, and what that took."""

from collections.abc import Sequence

from tasks.report import figures
from tasks.report.figures import known
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run


def learning(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """The training measure of every run over its steps: accuracy where all report it, else the loss."""
    rows = [[r for r in run.metrics if r.get("phase") == "train" and known(r.get("step"))] for run in runs]
    rows = [[r for r in part if known(r.get("accuracy")) or known(r.get("loss"))] for part in rows]
    measure = "accuracy" if all(known(r.get("accuracy")) for part in rows for r in part) else "loss"
    drawn: list[tuple[int, list[figures.Line]]] = []
    for i, part in enumerate(rows):
        tasks = list(dict.fromkeys(r.get("task") for r in part if known(r.get(measure))))
        lines: list[figures.Line] = []
        for task in tasks:
            own = [r for r in part if r.get("task") == task and known(r.get(measure))]
            # Tasks are counted from 1 on the page, from 0 in the files.
            label = f"task {task + 1}" if isinstance(task, int) else task or "all tasks"
            lines.append((label, [r["step"] for r in own], [r[measure] for r in own]))
        if lines:
            drawn.append((i, lines))
    if not drawn:
        return []
    values = [v for _, lines in drawn for _, _, y in lines for v in y]
    limits = (
        (min(0.0, *values), max(1.0, *values))
        if measure == "accuracy"
        else (min(0.0, *values), max(0.0, *values) or 1.0)
    )
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
    return [Section("learning", "Learning curves", caption, panels)]
