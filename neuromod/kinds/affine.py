"""Scale and shift of an output, per channel: BatchNorm's affine parameters and FiLM."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neuromod.arguments import one_of
from neuromod.kinds.base import Edits, Kind, Now, Raw, write_tap
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Affine(Kind):
    """``h' = gain * h + bias``, per channel. Raw parts: ``gain`` (C,), ``bias`` (C,).

    FiLM (Perez et al. 2018, eq. 2) starts at gain 1, bias 0 (``init="one"``), the identity. Training BatchNorm and only
    BatchNorm (Frankle et al. 2021) starts at gain ~ U[0, 1), bias 0 (``init="uniform"``), at the sites of the norms.
    """

    init: Literal["one", "uniform"] = "one"
    roles: ClassVar[tuple[str, ...]] = ("output",)

    def __post_init__(self) -> None:
        one_of(self.init, "init of Affine", ("one", "uniform"))

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"gain": site.shape, "bias": site.shape}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        gain = torch.rand(site.shape, generator=rng) if self.init == "uniform" else torch.ones(site.shape)
        return {"gain": gain, "bias": torch.zeros(site.shape)}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return {"gain": torch.ones(site.shape), "bias": torch.zeros(site.shape)}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return write_tap(site, now, raw["gain"], raw["bias"])
