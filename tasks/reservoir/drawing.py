"""The report of reservoirs: what was asked for beside what was said, states, memory, singular values.

Args:
    runs: the finished runs.
    names: one per run.

"""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report import figures
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run

Lines = Sequence[tuple[str, Sequence[float], Sequence[float]]]


def forecasts(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Target against output on the first test steps, and some of the states."""
    panels: list[Panel] = []
    for i, found in _having(runs, "forecast"):
        note = f"NRMSE {found['nrmse']:.4f}, NMSE {found['nmse']:.4g}, ridge {found['ridge']:g}. "
        note += f"Drawn again {found['redrawn']} times, for it diverged." if found["redrawn"] else ""
        panels += _pair(f"forecast-{i}", names[i], looks_of(runs)[i], found, note)
    caption = "The first test steps: what was asked for (pale) and what the readout says; beside it the first units of the reservoir."
    return [Section("forecast", "Target and output", caption, tuple(panels))] if panels else []


def switching(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Target against output over one switch of contexts, states, and what two starts came to."""
    panels: list[Panel] = []
    for i, found in _having(runs, "contexts"):
        worst = max(found["echo"]["distances"].items(), key=lambda pair: pair[1])
        of = ", ".join(f"{error:.3f}" for error in found["by_context"])
        note = f"NRMSE by context {of}. Two starts end {worst[1]:.1g} apart ({worst[0]})."
        panels += _pair(f"contexts-{i}", names[i], looks_of(runs)[i], found, note)
    caption = (
        "Two tasks take turns; one readout serves both. What was asked for (pale) and what it says, around a switch; beside it the first "
        "units of the reservoir."
    )
    return [Section("contexts", "Two contexts, one readout", caption, tuple(panels))] if panels else []


def memories(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """The squared correlation with the input k steps back, over k."""
    panels = []
    for i, found in _having(runs, "memory"):
        curve = found["curve"]
        note = f"Memory capacity {runs[i].value:.1f}, {100 * found['share']:.0f} % of the units."
        label = f"Memory of {names[i]}: squared correlation over {len(curve)} delays"
        last = max((k for k, value in enumerate(curve) if value > 0.02), default=0) + 10
        line = [("", list(range(1, len(curve) + 1))[:last], curve[:last])]
        svg = figures.curves(f"memory-{i}", label, line, looks_of(runs)[i], ("delay", "r²"), (0.0, 1.0))
        panels.append(Panel(names[i], looks_of(runs)[i][0], svg, note))
    caption = "How well a readout says the input of k steps ago, on steps that it was not fitted on; the area is the memory capacity."
    return [Section("memory", "Memory", caption, tuple(panels))] if panels else []


def recalled(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Patterns with their conceptors and without, singular values, and a morph."""
    panels = []
    for i, found in _having(runs, "conceptors"):
        look = looks_of(runs)[i]
        for j, (target, output, free) in enumerate(zip(found["target"], found["output"], found["free"], strict=True)):
            steps = list(range(len(target)))
            lines = [("pattern", steps, target), ("free", steps, free), ("recalled", steps, output)]
            label = f"Pattern {j + 1} of {names[i]}, recalled and without a conceptor"
            svg = figures.curves(f"pattern-{i}-{j}", label, lines, look, ("step", ""), _limits(lines))
            note = f"NRMSE {found['full']['nrmse'][j]:.3f}; without a conceptor {found['without']['nrmse'][j]:.2f} (middle tone)."
            panels.append(Panel(f"{names[i]}, pattern {j + 1}", look[0], svg, note))
        lines = [(f"pattern {j + 1}", list(range(1, len(s) + 1)), s) for j, s in enumerate(found["singular"])]
        label = f"Singular values of the conceptors of {names[i]}"
        svg = figures.curves(f"singular-{i}", label, lines, look, ("place", "singular value"), (0.0, 1.0))
        quotas = ", ".join(f"{q:.2f}" for q in found["quotas"])
        panels.append(Panel(f"{names[i]}, singular values", look[0], svg, f"Shares of the memory: {quotas}."))
        if len(found["periods"]) > 1:
            lines = [("", list(range(1, len(found["periods"]) + 1)), found["periods"])]
            label = f"Periods while the conceptors of {names[i]} are mixed"
            svg = figures.curves(f"morph-{i}", label, lines, look, ("wave", "period"), _limits(lines))
            note = "First the conceptor of pattern 1, last that of pattern 2, mixtures in between."
            panels.append(Panel(f"{names[i]}, a morph", look[0], svg, note))
    caption = (
        "One frozen network says four patterns; which one, its conceptor alone decides. All start at random states."
    )
    return [Section("conceptors", "Patterns recalled", caption, tuple(panels))] if panels else []


def _having(runs: Sequence[Run], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    return [(i, run.measure(name)) for i, run in enumerate(runs) if run.measure(name)]


# reason: a drawing's words
def _pair(key: str, name: str, look: Any, found: Mapping[str, Any], note: str) -> list[Panel]:
    steps = list(range(len(found["target"])))
    lines = [("target", steps, found["target"]), ("output", steps, found["output"])]
    label = f"Target and output of {name}"
    said = figures.curves(f"{key}-said", label, lines, look, ("step", ""), _limits(lines))
    units = [(f"unit {j + 1}", list(range(len(s))), s) for j, s in enumerate(found["states"])]
    inside = figures.curves(f"{key}-states", f"States of {name}", units, look, ("step", "state"), _limits(units))
    return [Panel(name, look[0], said, note), Panel(f"{name}, states", look[0], inside)]


def _limits(lines: Lines) -> tuple[float, float]:
    values = [value for _, _, y in lines for value in y]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
