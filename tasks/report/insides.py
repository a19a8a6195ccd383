"""What training left inside the network: masks, gates, gains, and what a mask alone is worth."""

from collections.abc import Sequence

from tasks.report import figures
from tasks.report.figures import known
from tasks.report.panels import Panel, Section, grids, looks_of
from tasks.report.read import Run
from tasks.report.svg import styles
from tasks.report.table import percent

MOST_PICTURES = 24
MEASURES = {
    "density": "share of weights kept",
    "sign_agreement": "share of signs as at the start",
    "distance": "distance moved, lengths of the start",
    "near_zero": "share of gains below .01",
}


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
        panels.append(Panel(names[i], looks_of(runs)[i][0], svg, note))
    caption = (
        "First-layer masks as pictures: at each pixel of the image (a permutation is undone), the share of mask bits "
        "that training changed from their random start, darker where more changed. The grey scale is one per run."
    )
    return Section("masks", "What training changed in the masks", caption, tuple(panels)) if panels else None


def overlap(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Intersection over union of the masks of two tasks."""

    def found(run: Run) -> list[tuple[str, figures.Grid, str]]:
        if not (grid := run.result.get("overlap")):
            return []
        mean, chance = (run.result.get(f"overlap_{key}") for key in ("mean", "chance"))
        note = f"Mean of pairs {mean:.3f}; independent masks as dense {chance:.3f}." if known(mean) else ""
        return [("", grid, note)]

    panels = grids(runs, names, "overlap", found, ("task", "task"), (0.0, 1.0))
    caption = (
        "Overlap of the masks of two tasks: weights kept by both over weights kept by either. Independent masks that "
        "keep a share d of the weights overlap by d / (2 - d), which is 1/3 at d = 1/2."
    )
    return Section("overlap", "How much tasks share", caption, tuple(panels)) if panels else None


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
            looks.append(looks_of(runs)[i])
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
        gains, colour = list(found["gammas"].values()), looks_of(runs)[i][0]
        svg = figures.histogram(f"gammas-{i}", f"Gains of norms of {names[i]}, layer by layer", gains, colour, "gain")
        note = (
            f"{percent(found['near_zero_share'])} % below .01; setting them to zero costs {100 * found['zeroed_cost']:.2f} "
            f"points, as many others {100 * found['random_zeroed_cost']:.2f}."
        )
        panels.append(Panel(names[i], colour, svg, note))
    caption = (
        "The gains of all norms after training, and below them layer by layer from the input to the output: a peak at zero is "
        "units that were switched off."
    )
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
            panels.append(
                Panel(f"{names[i]}, {of}", looks_of(runs)[i][0], svg, _signs(run) if start == "constant" else "")
            )
    caption = (
        "Masks by criteria of training, laid over weights that were never trained (Zhou et al. 2019): what the choice of "
        "weights alone is worth."
    )
    return Section("criteria", "Masks at iteration 0", caption, tuple(panels)) if panels else None


def _signs(run: Run) -> str:
    """What is left of the network when every weight of a layer gets one size."""
    reduced = run.result.get("reduced")
    if not reduced:
        return ""
    return (
        f"No weight removed, one size a layer: trained signs {percent(reduced['final_signs'])} %, "
        f"signs of the start {percent(reduced['initial_signs'])} %; trained weights {percent(run.result['accuracy'])} %."
    )


def gates(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Mean gate activity by task and channel, and by class and channel."""
    keys = {"gates": "task", "gates_by_class": "class"}
    tops = [v for run in runs for key in keys for row in run.result.get(key) or [] for v in row if known(v)]
    scale = (0.0, max([1.0, *tops]))

    def panels(key: str, rows: str, name: str) -> list[Panel]:
        def found(run: Run) -> list[tuple[str, figures.Grid, str]]:
            return [(f", by {rows}", run.result[key], "")] if run.result.get(key) else []

        return grids(runs, names, name, found, (rows, "channel"), scale, (rows == "task", False))

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
