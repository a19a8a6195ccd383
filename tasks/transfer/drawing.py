"""Far tasks in the report: accuracy of each, beside that of the network that was tuned to it, or of the one that was not."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.svg import QUIET, Look, render

Accuracies = Mapping[str, float]


def switches(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Accuracy task by task, a panel a run, beside that of the tuned networks."""

    def panel(found: Mapping[str, Any]) -> tuple[Accuracies, str]:
        return (
            found["tuned"],
            f"{found['bits_per_weight']:.2f} bits per weight and task; tuned {found['tuned_mean']:.3f} on average.",
        )

    caption = "Test accuracy of the far tasks (dot), and of the network that was tuned to each (line)."
    return _sections(runs, names, "switches", panel, caption)


def modulations(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Accuracy task by task, a panel a run, beside that of the network as it was frozen."""

    def panel(found: Mapping[str, Any]) -> tuple[Accuracies, str]:
        return found["untouched"], f"The network itself, on its own task: {found['base']:.3f}."

    caption = "Test accuracy of the far tasks under their modulation (dot), and of the frozen network (line)."
    return _sections(runs, names, "modulations", panel, caption)


def _sections(runs: Sequence[Run], names: Sequence[str], measure: str, panel: Any, caption: str) -> list[Section]:
    panels = []
    for i, run in enumerate(runs):
        if found := run.measure(measure):
            (beside, note), look = panel(found), looks_of(runs)[i]
            drawn = _tasks(f"{measure}-{i}", names[i], found["accuracies"], beside, look)
            panels.append(Panel(names[i], look[0], drawn, note))
    return [Section(measure, "Far tasks", caption, tuple(panels))] if panels else []


def _tasks(key: str, name: str, accuracies: Accuracies, beside: Accuracies, look: Look) -> str:
    tasks = list(accuracies)
    label = f"{name}: " + ", ".join(f"{task} {accuracies[task]:.3f}" for task in tasks)

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        places = range(len(tasks), 0, -1)
        for place, task in zip(places, tasks, strict=True):
            value, other = accuracies[task], beside[task]
            ax.plot([value, other], [place, place], color=QUIET, linewidth=1)
            ax.plot([other, other], [place - 0.28, place + 0.28], color=QUIET, linewidth=1.6)
            ax.plot([value], [place], color=look[0], marker="o", markersize=5)
        ax.set(
            xlabel="test accuracy",
            yticks=list(places),
            yticklabels=tasks,
            ylim=(0.4, len(tasks) + 0.6),
            xlim=(None, 1.0),
        )

    return render(key, label, (4.6, 2.3), draw)
