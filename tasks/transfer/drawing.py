"""Switches in the report: accuracy of each far task, beside that of the network that was tuned to it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.svg import QUIET, Look, render


def sections(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Accuracy task by task, a panel a run."""
    panels = []
    for i, run in enumerate(runs):
        found = run.measure("switches")
        if found:
            look = looks_of(runs)[i]
            note = (
                f"{found['bits_per_weight']:.2f} bits per weight and task; tuned {found['tuned_mean']:.3f} on average."
            )
            panels.append(Panel(names[i], look[0], _tasks(f"switches-{i}", names[i], found, look), note))
    caption = "Test accuracy of the far tasks (dot), and of the network that was tuned to each (line)."
    return [Section("switches", "Far tasks", caption, tuple(panels))] if panels else []


def _tasks(key: str, name: str, found: Mapping[str, Any], look: Look) -> str:
    tasks = list(found["accuracies"])
    label = f"{name}: " + ", ".join(f"{task} {found['accuracies'][task]:.3f}" for task in tasks)

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        places = range(len(tasks), 0, -1)
        for place, task in zip(places, tasks, strict=True):
            value, tuned = found["accuracies"][task], found["tuned"][task]
            ax.plot([value, tuned], [place, place], color=QUIET, linewidth=1)
            ax.plot([tuned, tuned], [place - 0.28, place + 0.28], color=QUIET, linewidth=1.6)
            ax.plot([value], [place], color=look[0], marker="o", markersize=5)
        ax.set(
            xlabel="test accuracy",
            yticks=list(places),
            yticklabels=tasks,
            ylim=(0.4, len(tasks) + 0.6),
            xlim=(None, 1.0),
        )

    return render(key, label, (4.6, 2.3), draw)
