"""What the report shows: each part as panels with a caption; a part without data is not there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.report import figures
from tasks.report.figures import known
from tasks.report.read import Run
from tasks.report.svg import styles
from tasks.report.table import percent

MOST_PICTURES = 24


@dataclass(frozen=True)
class Panel:
    """One drawing: the run or thing it shows, that method's colour, and the SVG."""

    title: str
    colour: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, the panels under it and the caption that says how to read them."""

    key: str
    heading: str
    caption: str
    panels: tuple[Panel, ...]


def matrices(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Accuracy on each task after each task, on one colour scale."""
    shown = [(i, run.result["matrix"]) for i, run in enumerate(runs) if run.result["matrix"]]
    if not shown:
        return None
    scale, axes, looks = figures.span([m for _, m in shown]), ("after learning task", "accuracy on task"), _looks(runs)
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
            looks.append(_looks(runs)[i])
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
    looks = _looks(runs)
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


def masks(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """First-layer masks as pictures, one per task."""
    panels = []
    for i, run in enumerate(runs):
        if not (images := (run.result.get("masks") or [])[:MOST_PICTURES]):
            continue
        values = [v for image in images for row in image for v in row]
        low, high = min(values), max(values)
        scale = (low, high) if high > low else (0.0, max(high, 1.0))
        titles = [f"task {t + 1}" for t in range(len(images))]
        svg = figures.pictures(f"mask-{i}", f"First-layer masks of {names[i]}, one per task", images, titles, scale)
        total = len(run.result["masks"])
        note = f"White is {scale[0]:.2f}, black is {scale[1]:.2f}."
        note += f" The first {MOST_PICTURES} of {total} tasks." if total > MOST_PICTURES else ""
        panels.append(Panel(names[i], _looks(runs)[i][0], svg, note))
    caption = (
        "First-layer masks as pictures: at each pixel of the image (a permutation is undone), the share of mask bits "
        "that training changed from their random start, darker where more changed. The grey scale is one per run."
    )
    return Section("masks", "What training changed in the masks", caption, tuple(panels)) if panels else None


def _grids(
    runs: Sequence[Run],
    names: Sequence[str],
    name: str,
    found: Callable[[Run], list[tuple[str, figures.Grid, str]]],
    axes: tuple[str, str],
    scale: tuple[float, float],
    tasks: tuple[bool, bool] = (True, True),
) -> list[Panel]:
    panels = []
    key = name.replace(" ", "-")
    for i, run in enumerate(runs):
        for j, (extra, grid, note) in enumerate(found(run)):
            title = f"{names[i]}{extra}"
            size = None if tasks[1] else (6.6, max(1.2, 0.24 * len(grid) + 0.6))
            label = f"{name[0].upper()}{name[1:]} of {title}"
            svg = figures.heat(f"{key}-{i}-{j}", label, grid, scale, axes, size=size, tasks=tasks)
            panels.append(Panel(title, _looks(runs)[i][0], svg, note))
    if panels:
        bar = figures.scale_bar(f"{key}-scale", f"Colour scale of {name}", scale, name)
        panels.append(Panel("Colour scale", "", bar))
    return panels


def overlap(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Intersection over union of the masks of two tasks."""

    def found(run: Run) -> list[tuple[str, figures.Grid, str]]:
        return [("", run.result["overlap"], "")] if run.result.get("overlap") else []

    panels = _grids(runs, names, "overlap", found, ("task", "task"), (0.0, 1.0))
    caption = (
        "Overlap of the masks of two tasks: weights kept by both over weights kept by either. Independent masks that "
        "keep a share d of the weights overlap by d / (2 - d), which is 1/3 at d = 1/2."
    )
    return Section("overlap", "How much tasks share", caption, tuple(panels)) if panels else None


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

    panels = _grids(runs, names, "share of inputs", found, ("true task", "inferred task"), (0.0, 1.0))
    caption = "The task inferred for the inputs of each true task, as shares of the row; the diagonal is right."
    return Section("inference", "Which task is this?", caption, tuple(panels)) if panels else None


def gates(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Mean gate activity by task and channel, and by class and channel."""
    keys = {"gates": "task", "gates_by_class": "class"}
    tops = [v for run in runs for key in keys for row in run.result.get(key) or [] for v in row if known(v)]
    scale = (0.0, max([1.0, *tops]))

    def panels(key: str, rows: str, name: str) -> list[Panel]:
        def found(run: Run) -> list[tuple[str, figures.Grid, str]]:
            return [(f", by {rows}", run.result[key], "")] if run.result.get(key) else []

        return _grids(runs, names, name, found, (rows, "channel"), scale, (rows == "task", False))

    by_task, by_class = (
        panels("gates", "task", "gate activity"),
        panels("gates_by_class", "class", "gate activity by class"),
    )
    caption = (
        "Mean activity of each gate (column) on the inputs of each task, and of each class in all tasks (row): dark lets "
        "through, pale shuts."
    )
    # One colour scale serves both.
    return Section("gates", "Gate activity", caption, (*by_task[:-1], *by_class[:-1], by_task[-1])) if by_task else None


def routing(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Mean routing weight of each expert on the test inputs of each task."""

    def found(run: Run) -> list[tuple[str, figures.Grid, str]]:
        if not (routed := run.result.get("routing")):
            return []
        return [("", routed["weights"], f"Experts from left to right: {', '.join(map(str, routed['experts']))}.")]

    panels = _grids(runs, names, "routing weight", found, ("task", "expert"), (0.0, 1.0))
    caption = "Mean weight that the router gives each expert (column) on the inputs of each task (row)."
    return Section("routing", "Which expert for which task?", caption, tuple(panels)) if panels else None


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
        panels.append(Panel(names[i], _looks(runs)[i][0], svg, note))
    caption = (
        "The first images of one unlabelled batch from several tasks, routed and classified in one call: the true task, "
        "the task that was found, the class that was answered. A heavy frame is where one of them is wrong. Images are "
        "shown as they were before the view of their task."
    )
    return Section("mixed", "One batch, many tasks", caption, tuple(panels)) if panels else None


def bits(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Accuracy against what a task takes on disk."""
    shown = [i for i, run in enumerate(runs) if known(run.result.get("bits_per_weight"))]
    if len(shown) < 2:
        return None
    points = [(names[i], runs[i].result["bits_per_weight"], runs[i].result["accuracy"]) for i in shown]
    label = "Accuracy against bits: " + ", ".join(f"{n} {y:.3f} at {x:.2f}" for n, x, y in points)
    looks = [_looks(runs)[i] for i in shown]
    svg = figures.scatter("bits", label, points, looks, ("bits a weight on disk", "accuracy, task known"))
    caption = (
        "Mean accuracy against what the store keeps for each masked weight of a task, in bits: raw a mask takes one; coded "
        "against its seeded start it takes less, the less training moved it."
    )
    return Section("bits", "Accuracy against bits", caption, (Panel("", "", svg),))


MEASURES = {
    "density": "share of weights kept",
    "sign_agreement": "share of signs as at the start",
    "distance": "distance from the start, lengths of the start",
    "near_zero": "share of gains below .01",
}


def layers(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """What training did to each layer."""
    panels = []
    for key, measure in MEASURES.items():
        shown = [i for i, run in enumerate(runs) if (run.result.get("analysis") or {}).get(key)]
        if not shown:
            continue
        lines, looks = [], []
        for i in shown:
            values = list(runs[i].result["analysis"][key].values())
            lines.append((names[i], list(range(1, len(values) + 1)), values))
            looks.append(_looks(runs)[i])
        label = f"{measure[0].upper()}{measure[1:]}, layer by layer: " + ", ".join(names[i] for i in shown)
        panels.append(Panel(measure, "", figures.by_layer(f"layers-{key}", label, lines, looks, measure)))
    caption = (
        "Layer by layer, from the input to the output: what masks keep, how many weights have the sign that they started "
        "with, how far each layer moved, how many gains of norms are switched off."
    )
    return Section("layers", "What training did, layer by layer", caption, tuple(panels)) if panels else None


def gammas(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Histograms of the gains of norms."""
    panels = []
    for i, run in enumerate(runs):
        found = run.result.get("analysis") or {}
        if not found.get("gammas"):
            continue
        values = [g for layer in found["gammas"].values() for g in layer]
        svg = figures.histogram(f"gammas-{i}", f"Gains of norms of {names[i]}", values, _looks(runs)[i][0], "gain")
        note = (
            f"{percent(found['near_zero_share'])} % below .01; setting them to zero costs {100 * found['zeroed_cost']:.2f} "
            f"points, as many others {100 * found['random_zeroed_cost']:.2f}."
        )
        panels.append(Panel(names[i], _looks(runs)[i][0], svg, note))
    caption = "The gains of all norms after training: a peak at zero is units that were switched off."
    return Section("gammas", "Gains of the norms", caption, tuple(panels)) if panels else None


def criteria(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Accuracy of masks over untrained weights, by criterion and density."""
    panels = []
    for i, run in enumerate(runs):
        if not (found := run.result.get("criteria")):
            continue
        for start, of in (("init", "the start itself"), ("constant", "the signs of the start, one size a layer")):
            lines = [
                (name, [share for share, _ in one[start]["curve"]], [value for _, value in one[start]["curve"]])
                for name, one in found.items()
            ]
            label = f"Accuracy of masks over {of} of {names[i]}: " + ", ".join(f"{n} {max(y):.3f}" for n, _, y in lines)
            looks = list(styles([name for name, _, _ in lines]).values())
            svg = figures.progress(
                f"criteria-{start}-{i}", label, lines, looks, ("share kept", "accuracy, no weight trained")
            )
            panels.append(Panel(f"{names[i]}, {of}", _looks(runs)[i][0], svg))
    caption = (
        "Masks by criteria of training, laid over weights that were never trained (Zhou et al. 2019): what the choice of "
        "weights alone is worth."
    )
    return Section("criteria", "Masks at iteration 0", caption, tuple(panels)) if panels else None


def _looks(runs: Sequence[Run]) -> list[tuple[str, str]]:
    by_method = styles([str(run.result["method"]) for run in runs])
    return [by_method[str(run.result["method"])] for run in runs]


def sections(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Every part that these runs have something to show for, in reading order."""
    drawn = (
        *(progress, matrices, learning, masks, overlap, bits, layers, gammas, criteria),
        *(inference, mixed, gates, routing),
    )
    parts: list[Any] = [part(runs, names) for part in drawn]
    return [part for part in parts if part is not None]
