"""Masks of the first modulator of masks: their overlap, what training changed in them, and how they look."""

import itertools
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from neuromod import Modulator, Table
from neuromod.analysis import chance_overlap, overlap
from neuromod.sources import Row
from neuromod.sources.context import Context
from tasks.continual import learners
from tasks.continual.streams import Stream
from tasks.experiment import Bench
from tasks.report import figures
from tasks.report.figures import known
from tasks.report.panels import Panel, Section, grids, looks_of
from tasks.report.read import Run
from tasks.runs.files import rounded

SHOWN = 24  # tasks whose masks are compared and drawn


@torch.no_grad()
def measure(learner: Any, stream: Stream, bench: Bench) -> dict[str, Any] | None:
    """Of masks per task: how much tasks share, and what training changed; None without masks.

    ``overlap`` (T, T), ``overlap_mean``, ``overlap_chance``: intersection over union. ``flipped``: the share of bits
    that training changed. ``masks``: that share at each pixel of the image, (T, H, W), where the first layer sees all
    pixels.
    """
    found: dict[str, Any] = {}
    if not isinstance(learner, learners.Modulated):
        return None
    for modulator in learner.model.readers("task").values():
        if modulator.kind.is_mask:
            masks = [masks_of(modulator, task) for task in modulator.tasks()[:SHOWN]]
            found |= _overlap(masks) | {"flipped": _flipped(modulator, masks)} | _changed(modulator, masks, stream)
    return found or None


@torch.no_grad()
def masks_of(modulator: Modulator, task: int) -> dict[str, Tensor]:
    """The masks of a task by their sites' names, bool, of live and of sealed tasks alike."""
    return _masks(modulator, modulator(Context((), 0, tasks=(task,))).one())


def _masks(modulator: Modulator, row: Row) -> dict[str, Tensor]:
    raws = modulator.raws(row)
    # The factor of a blend is the mask, however it is kept, and at whatever scale.
    now = {site.name: modulator.like.new_empty(site.shape) for site in modulator.sites}
    return {site.name: modulator.kind.blend(site, raws[site.label], now)["factor"] != 0 for site in modulator.sites}


def _overlap(masks: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Intersection over union of every pair of tasks; its mean over pairs, beside that of masks which share nothing."""
    pairs = list(itertools.combinations(range(len(masks)), 2))
    if not pairs:
        return {}
    table = torch.eye(len(masks), dtype=torch.float64)
    for i, j in pairs:
        table[i, j] = table[j, i] = overlap(masks[i], masks[j])
    return {
        "overlap": rounded(table),
        "overlap_mean": fmean(float(table[pair]) for pair in pairs),
        "overlap_chance": fmean(chance_overlap(masks[i], masks[j]) for i, j in pairs),
    }


def _flipped(modulator: Any, masks: list[dict[str, Tensor]]) -> float:
    """The share of all bits that training changed."""
    changed, count = 0, 0
    for number, mask in enumerate(masks):
        start = _started(modulator, number)
        changed += sum(int((kept != start[name]).sum()) for name, kept in mask.items())
        count += sum(kept.numel() for kept in mask.values())
    return changed / count


def _started(modulator: Modulator, number: int) -> dict[str, Tensor]:
    """The masks that a task began with."""
    return _masks(modulator, modulator.start(number if isinstance(modulator.source, Table) else "offset"))


def _changed(modulator: Any, masks: list[dict[str, Tensor]], stream: Stream) -> dict[str, Any]:
    """The share of first-layer bits that training changed, at each pixel of the image, where that layer sees all pixels.

    The masks themselves look like noise, for most of their bits are still those of the random start.
    """
    channels, height, width = stream.shape
    site = modulator.sites[0]
    if len(site.shape) != 2 or site.shape[1] != channels * height * width:
        return {}
    pictures = []
    for number, (task, mask) in enumerate(zip(stream.tasks, masks, strict=False)):
        share = (
            (mask[site.name] != _started(modulator, number)[site.name])
            .float()
            .mean(0)
            .reshape(channels, height, width)
            .mean(0)
        )
        pictures.append(rounded(task.view.picture(share)))
    return {"masks": pictures}


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """What training changed in first-layer masks, and how much two tasks share."""
    return [section for section in (_pictures(runs, names), _shared(runs, names)) if section is not None]


def _pictures(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """First-layer masks as pictures, one per task."""
    panels = []
    for i, run in enumerate(runs):
        if not (images := run.measure("masks").get("masks", [])[:SHOWN]):
            continue
        values = [v for image in images for row in image for v in row]
        low, high = min(values), max(values)
        scale = (low, high) if high > low else (0.0, max(high, 1.0))
        titles = [f"task {t + 1}" for t in range(len(images))]
        svg = figures.pictures(f"mask-{i}", f"First-layer masks of {names[i]}, one per task", images, titles, scale)
        total = len(run.measure("masks")["masks"])
        note = f"White is {scale[0]:.2f}, black is {scale[1]:.2f}."
        note += f" The first {SHOWN} of {total} tasks." if total > SHOWN else ""
        panels.append(Panel(names[i], looks_of(runs)[i][0], svg, note))
    caption = (
        "First-layer masks as pictures: at each pixel of the image (a permutation is undone), the share of mask bits "
        "that training changed from their random start, darker where more changed. The grey scale is one per run."
    )
    return Section("masks", "What training changed in the masks", caption, tuple(panels)) if panels else None


def _shared(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Intersection over union of the masks of two tasks."""

    def grids_of(run: Run) -> list[tuple[str, figures.Grid, str]]:
        if not (grid := run.measure("masks").get("overlap")):
            return []
        mean, chance = (run.measure("masks").get(f"overlap_{key}") for key in ("mean", "chance"))
        note = f"Mean of pairs {mean:.3f}; independent masks as dense {chance:.3f}." if known(mean) else ""
        return [("", grid, note)]

    panels = grids(runs, names, "overlap", grids_of, ("task", "task"), (0.0, 1.0))
    caption = (
        "Overlap of the masks of two tasks: weights kept by both over weights kept by either. Independent masks that "
        "keep a share d of the weights overlap by d / (2 - d), which is 1/3 at d = 1/2."
    )
    return Section("overlap", "How much tasks share", caption, tuple(panels)) if panels else None
