"""What a report shows of a model: masks of the first layer, their overlap, the activity of gates."""

import itertools
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from neuromod import Gate, Modulated, Modulator, Table
from neuromod.analysis import chance_overlap, overlap
from neuromod.kinds.masks import Mask
from neuromod.modulator import by_site
from neuromod.sources import Context
from neuromod.training.penalties import gates
from tasks.continual.learners.modulated import told
from tasks.continual.streams import Stream

IMAGES = 256  # test images of each task that a picture is taken from
SHOWN = 24  # tasks whose masks are drawn
CHUNK = 64  # rows of weights, one an image, would fill the memory otherwise


@torch.no_grad()
def pictures(model: Modulated, stream: Stream) -> dict[str, Any]:
    """``masks``, ``overlap``, ``gates`` and ``gates_by_class`` as the report reads them, as far as the model has any."""
    found: dict[str, Any] = {}
    for modulator in model.modulators.values():
        if isinstance(modulator.kind, Mask) and modulator.reads == "task":
            masks = [masks_of(modulator, task) for task in modulator.tasks()[:SHOWN]]
            found |= _overlap(masks) | {"flipped": _flipped(modulator, masks)} | _changed(modulator, masks, stream)
    if any(isinstance(modulator.kind, Gate) for modulator in model.modulators.values()):
        found |= _gates(model, stream)
    return found


@torch.no_grad()
def masks_of(modulator: Modulator, task: int) -> dict[str, Tensor]:
    """The masks of a task by their sites' names, bool, of live and of sealed tasks alike."""
    raws = by_site(modulator(Context((), 0, tasks=(task,))).one())
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
        "overlap": _rounded(table),
        "overlap_mean": fmean(float(table[pair]) for pair in pairs),
        "overlap_chance": fmean(chance_overlap(masks[i], masks[j]) for i, j in pairs),
    }


def _flipped(modulator: Any, masks: list[dict[str, Tensor]]) -> float:
    """The share of all bits that training changed."""
    changed, count = 0, 0
    for number, mask in enumerate(masks):
        row = by_site(modulator.start(number if isinstance(modulator.source, Table) else "offset"))
        for site in modulator.sites:
            kept = mask[site.name]
            changed += int((kept != (modulator.kind.mask(site, row[site.label]) != 0)).sum())
            count += kept.numel()
    return changed / count


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
        row = modulator.start(number if isinstance(modulator.source, Table) else "offset")
        start = modulator.kind.mask(site, by_site(row)[site.label]) != 0
        share = (mask[site.name] != start).float().mean(0).reshape(channels, height, width).mean(0)
        pictures.append(_rounded(task.view.picture(share)))
    return {"masks": pictures}


def _gates(model: Modulated, stream: Stream) -> dict[str, Any]:
    """The mean factor of the first gated site on test images, whatever its source reads.

    ``gates`` (T, C): on the images of each task; ``gates_by_class`` (classes, C): on those of each class in all tasks, a
    row of None for a class without images.
    """
    factors, labels = [], []
    for number, task in enumerate(stream):
        # Spread over the whole split, which may be sorted by class.
        chosen = torch.linspace(0, len(task.test) - 1, min(IMAGES, len(task.test))).long().to(task.test.labels.device)
        x = task.view(task.test.images[chosen])
        labels.append(task.test.labels[chosen])
        parts = [(len(part), gates(model, model.rows(part, **told(model, number)))) for part in x.split(CHUNK)]
        factors.append(torch.cat([next(iter(found.values())).expand(size, -1) for size, found in parts]))
    classes = torch.arange(stream.classes, device=labels[0].device)
    member = (torch.cat(labels) == classes[:, None]).to(factors[0].dtype)
    means = _rounded(member @ torch.cat(factors) / member.sum(1, keepdim=True).clamp(min=1))
    there = member.any(1).tolist()
    by_class = [row if some else [None] * len(row) for row, some in zip(means, there, strict=True)]
    return {"gates": _rounded(torch.stack([values.mean(0) for values in factors])), "gates_by_class": by_class}


def _rounded(values: Tensor) -> list[Any]:
    return [[round(v, 4) for v in row] for row in values.double().tolist()]
