"""What a report shows of a model: masks of the first layer, their overlap, the activity of gates."""

from typing import Any

import torch
from torch import Tensor

from neuromod import Gate, Modulated, Table
from neuromod.kinds.masks import Mask
from neuromod.modulator import by_site
from neuromod.sources import Context
from tasks.streams import Stream


@torch.no_grad()
def pictures(model: Modulated, stream: Stream) -> dict[str, Any]:
    """``masks``, ``overlap`` and ``gates`` as the report reads them, as far as the model has any."""
    found: dict[str, Any] = {}
    for modulator in model.modulators.values():
        if isinstance(modulator.kind, Mask) and modulator.reads == "task":
            masks = [_masks(modulator, task) for task in range(len(stream))]
            found["overlap"] = _rounded(_overlap(masks))
            found |= _changed(modulator, masks, stream)
        if isinstance(modulator.kind, Gate):
            found["gates"] = _rounded(_gates(model, modulator, stream))
    return found


def _masks(modulator: Any, task: int) -> list[Tensor]:
    raws = by_site(modulator(Context((), 0, tasks=(task,))).row(0))
    return [modulator.kind.mask(site, raws[site.label]) for site in modulator.sites]


def _overlap(masks: list[list[Tensor]]) -> Tensor:
    """Intersection over union of every pair of tasks, over all sites."""
    flat = torch.stack([torch.cat([m.flatten() for m in task]) for task in masks]).float()
    both = flat @ flat.T
    kept = flat.sum(1)
    return both / (kept[:, None] + kept[None, :] - both).clamp(min=1)


def _changed(modulator: Any, masks: list[list[Tensor]], stream: Stream) -> dict[str, Any]:
    """The share of first-layer bits that training changed, at each pixel of the image, where that layer sees all pixels.

    The masks themselves look like noise, for most of their bits are still those of the random start.
    """
    channels, height, width = stream.shape
    site = modulator.sites[0]
    if len(site.shape) != 2 or site.shape[1] != channels * height * width:
        return {}
    pictures = []
    for number, (task, mask) in enumerate(zip(stream, masks, strict=True)):
        row = modulator.start(number if isinstance(modulator.source, Table) else "offset")
        start = modulator.kind.mask(site, by_site(row)[site.label])
        share = (mask[0] != start).float().mean(0).reshape(channels, height, width).mean(0)
        pictures.append(_rounded(task.view.picture(share)))
    return {"masks": pictures}


def _gates(model: Modulated, modulator: Any, stream: Stream) -> Tensor:
    """The mean gate of the first site for each task: (T, C)."""
    site, means = modulator.sites[0], []
    for number, task in enumerate(stream):
        x = task.view(task.test.images[:256])
        tasks = (number,) if modulator.reads == "task" else None
        rows = modulator(Context((x,), len(x), tasks=tasks)).stacked()
        means.append(modulator.kind.gain(rows[f"{site.label}/code"]).mean(0))
    return torch.stack(means)


def _rounded(values: Tensor) -> list[Any]:
    return [[round(v, 4) for v in row] for row in values.double().tolist()]
