"""Numbers that were drawn, computed or read off, as the row of a task."""

from collections.abc import Mapping

import torch
from torch import Tensor

from neuromod.arguments import instance, shown, tensors
from neuromod.errors import RefusedError
from neuromod.modulator import Modulator
from neuromod.target.sites import Site


@torch.no_grad()
def give(modulator: Modulator, task: int, values: Mapping[str, Tensor], site: Site | None = None) -> None:
    """Write numbers that were drawn or computed into the row of a live task: ``give(gains, 0, {"gain": g, "bias": b})``.

    Of `Affine` the parts are "gain" and "bias", of a `Conceptor` "half" (`upper` of the matrix). Parts that are not named stay.

    Refused: parts that the kind has not, other shapes, NaN, and a task that is not live.

    Args:
        modulator: one of a model's, whose source is a `Table`.
        task: its id.
        values: numbers by part.
        site: one of the modulator's; needed where it has several.

    """
    instance(modulator, Modulator, "what numbers are given to")
    where = modulator.sites[0] if site is None else site
    if not isinstance(where, Site) or where not in modulator.sites or (site is None and len(modulator.sites) > 1):
        names = [s.name for s in modulator.sites]
        raise RefusedError(f"numbers are given to a site of the modulator; it has {names}; got {shown(site)}; name one")
    row = modulator.source.own(task)
    shapes, given = modulator.kind.shapes(where), tensors(values, "numbers that are given")
    for part, value in given.items():
        if tuple(value.shape) != shapes.get(part):
            raise RefusedError(
                f"{modulator.name} takes numbers {shapes} at {where.name!r}; got {part!r}: {shown(value)}; correct it"
            )
        if not bool(torch.isfinite(value).all()):
            raise RefusedError(f"numbers of a modulation are finite; {part!r} has NaN or infinity; compute it anew")
    for part, value in given.items():
        row[f"{where.label}/{part}"].copy_(value)
