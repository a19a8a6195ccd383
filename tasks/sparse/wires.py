"""Wires as a measure: how many each layer has, how old they are, where they end, and which pixels they reach."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.continual.streams import Stream
from tasks.experiment import Bench
from tasks.report import figures
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.runs.files import rounded

BINS = 20
INDEX_BITS, VALUE_BITS = 32, 32


@torch.no_grad()
def measure(learner: Any, stream: Stream, bench: Bench) -> dict[str, Any] | None:
    """Of the wires of the first task: ``wires`` and ``places`` by site, ``nonzero``, ``ages`` as a histogram, ``pixels``.

    ``bytes`` are those of index and value, 4 each, of ``total`` wires. ``pixels`` (H, W) is how many units read each pixel, where the
    first layer sees all pixels. None of a learner without wires.
    """
    wirings = getattr(learner, "wirings", None)
    if not wirings:
        return None
    wiring = next(iter(wirings.values()))
    counts, places = wiring.counts(), {name: value.numel() for name, value in wiring.values.items()}
    ages = torch.cat([age[age >= 0].float() for age in wiring.ages().values()])
    found = {
        "wires": counts,
        "places": places,
        "total": sum(counts.values()),
        "density": sum(counts.values()) / sum(places.values()),
        "nonzero": sum(int((value != 0).sum()) for value in wiring.values.values()),
        "bytes": sum(counts.values()) * (INDEX_BITS + VALUE_BITS) // 8,
        "ages": torch.histc(ages, BINS, 0, max(wiring.done, 1)).tolist(),
        "steps": wiring.done,
    }
    return found | _pixels(next(iter(wiring.wires.values())), stream)


def _pixels(wires: Tensor, stream: Stream) -> dict[str, Any]:
    channels, height, width = stream.shape
    if wires.ndim != 2 or wires.shape[1] != channels * height * width:
        return {}
    read = wires.float().sum(0).reshape(channels, height, width).sum(0)
    return {"pixels": rounded(stream[0].view.picture(read))}


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Which pixels the wires of the first layer reach, and how old wires are at the end."""
    shown = [(i, run, run.measure("wires")) for i, run in enumerate(runs) if "ages" in run.measure("wires")]
    panels = []
    for i, _, found in shown:
        note = (
            f"{found['total']:,} wires, {100 * found['density']:.2g} % of all places; {found['nonzero']:,} are not 0."
        )
        if pixels := found.get("pixels"):
            most = max(max(row) for row in pixels) or 1.0
            svg = figures.pictures(
                f"wires-{i}", f"Pixels that {names[i]} reads", [pixels], ["units per pixel"], (0.0, most)
            )
            panels.append(Panel(names[i], looks_of(runs)[i][0], svg, f"{note} Black is {most:.0f} units."))
    lines = [(names[i], _steps(found), _shares(found)) for i, _, found in shown]
    if lines:
        looks = [looks_of(runs)[i] for i, _, _ in shown]
        svg = figures.progress("wire-ages", "How old wires are", lines, looks, ("age in steps", "share of wires"))
        panels.append(Panel("Age", "", svg, "A share of 1 at the right: all wires are as old as the training."))
    caption = "Wires of the first layer by the pixel that they read (a permutation is undone), and their ages when training ends."
    return [Section("wires", "Where wires end", caption, tuple(panels))] if panels else []


def _steps(found: Any) -> list[float]:
    return [found["steps"] * (i + 0.5) / BINS for i in range(BINS)]


def _shares(found: Any) -> list[float]:
    total = max(sum(found["ages"]), 1.0)
    return [age / total for age in found["ages"]]
