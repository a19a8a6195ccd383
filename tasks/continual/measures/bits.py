"""What a task takes on disk, in bits for each masked weight, and what accuracy that buys."""

import math
from collections.abc import Sequence

from neuromod import Modulated
from tasks.report import figures
from tasks.report.figures import known
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run


def bits_per_weight(model: Modulated, stored: float) -> float | None:
    """Bits on disk for each masked weight of a task; None where nothing is masked."""
    masked = sum(math.prod(s.shape) for m in model.named_modulators().values() if m.kind.is_mask for s in m.sites)
    return 8 * stored / masked if masked else None


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Accuracy against what a task takes on disk."""
    shown = [i for i, run in enumerate(runs) if known(run.measure("bank").get("bits_per_weight"))]
    if len(shown) < 2:
        return []
    points = [(names[i], runs[i].measure("bank")["bits_per_weight"], runs[i].value) for i in shown]
    label = "Accuracy against bits: " + ", ".join(f"{n} {y:.3f} at {x:.2f}" for n, x, y in points)
    looks = [looks_of(runs)[i] for i in shown]
    svg = figures.scatter("bits", label, points, looks, ("bits per weight on disk", "accuracy, task known"))
    caption = (
        "Mean accuracy against what the store keeps for each masked weight of a task, in bits: raw a mask takes one; coded "
        "against its seeded start it takes less, the less training moved it."
    )
    return [Section("bits", "Accuracy against bits", caption, (Panel("", "", svg),))]
