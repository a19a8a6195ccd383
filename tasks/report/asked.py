"""What the network makes of inputs whose task nobody says."""

from collections.abc import Sequence

from tasks.report import figures
from tasks.report.panels import Panel, Section, grids, looks_of
from tasks.report.read import Run
from tasks.report.table import percent


def inference(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Which task was inferred for the inputs of which task."""

    def found(run: Run) -> list[tuple[str, figures.Grid, str]]:
        out = []
        for method, result in (run.result.get("inference") or {}).items():
            if "confusion" not in result:  # hundreds of tasks are no picture
                continue
            shares = [[v / (sum(row) or 1) for v in row] for row in result["confusion"]]
            note = f"Right: {percent(result['image'])} % from one image, {percent(result['group'])} % from a group."
            out.append((f", {method}", shares, note))
        return out

    panels = grids(runs, names, "share of inputs", found, ("true task", "inferred task"), (0.0, 1.0))
    caption = "The task inferred for the inputs of each true task, as shares of the row; the diagonal is right."
    return Section("inference", "Which task is this?", caption, tuple(panels)) if panels else None


def mixed(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """The first images of a mixed batch, and where they were sent."""
    panels = []
    for i, run in enumerate(runs):
        if not (made := run.result.get("mixed")):
            continue
        images = made["images"]
        rows = list(zip(*(made[key][: len(images)] for key in ("task", "found", "label", "answer")), strict=True))
        titles = [f"{task + 1} \u2192 {found + 1}: {answer}" for task, found, _, answer in rows]
        wrong = [task != found or label != answer for task, found, label, answer in rows]
        label = f"Images of a mixed batch of {names[i]}, the task that was found and the class"
        svg = figures.pictures(f"mixed-{i}", label, images, titles, (0.0, 255.0), marked=wrong)
        note = f"By {made['method']}: task and class of {percent(made['right'])} % of {len(made['task'])} images are right."
        panels.append(Panel(names[i], looks_of(runs)[i][0], svg, note))
    caption = (
        "The first images of one unlabelled batch from several tasks, routed and classified in one call: the true task, "
        "the task that was found, the class that was answered. A heavy frame is where one of them is wrong. Images are "
        "shown as they were before the view of their task."
    )
    return Section("mixed", "One batch, many tasks", caption, tuple(panels)) if panels else None


def routing(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Mean routing weight of each expert on the test inputs of each task."""

    def found(run: Run) -> list[tuple[str, figures.Grid, str]]:
        if not (routed := run.result.get("routing")):
            return []
        return [("", routed["weights"], f"Experts from left to right: {', '.join(map(str, routed['experts']))}.")]

    panels = grids(runs, names, "routing weight", found, ("task", "expert"), (0.0, 1.0))
    caption = "Mean weight that the router gives each expert (column) on the inputs of each task (row)."
    return Section("routing", "Which expert for which task?", caption, tuple(panels)) if panels else None
