"""What the report shows, in reading order; a part without data is not there."""

from collections.abc import Sequence

from tasks.meta.drawing import sequential
from tasks.report.asked import inference, mixed, routing
from tasks.report.curves import bits, learning, matrices, progress
from tasks.report.insides import criteria, gammas, gates, layers, masks, overlap
from tasks.report.panels import Section
from tasks.report.read import Run


def sections(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Every part that these runs have something to show for, in reading order."""
    drawn = (
        *(progress, matrices, learning, masks, overlap, bits, layers, gammas, criteria),
        *(inference, mixed, gates, routing, sequential),
    )
    parts = [part(runs, names) for part in drawn]
    return [part for part in parts if part is not None]
