"""Running statistics of norms that belong to a task."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuromod.kinds.base import Edits, Kind, Now, Raw
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Statistics(Kind):
    """A task's own running mean or variance of a BatchNorm (sites of `Target.statistics`). Raw part: ``value`` (C,).

    Measured by `calibrate`, never learned; NaN until then, and evaluation of the task is refused. One BatchNorm state
    per task as in SupSup's SplitCIFAR (Wortsman et al. 2020, section 4.1).
    """

    roles: ClassVar[tuple[str, ...]] = ("buffer",)
    learned: ClassVar[bool] = False
    replaces: ClassVar[bool] = True

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"value": site.shape}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return {"value": torch.full(site.shape, torch.nan)}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        """The target's own statistics."""
        return {"value": now[site.name].clone()}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return {site.name: raw["value"]}
