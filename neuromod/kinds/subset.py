"""A few weights of the target, chosen at random, that are learned: the control of every modulation that is small."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.arguments import count, number
from neuromod.kinds.base import Edits, Kind, Now, Raw
from neuromod.seeds import generator
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Subset(Kind):
    """``W'_i = v_i`` at ``round(per_output * outputs)`` places i of each weight, drawn from ``seed``; the rest is W.

    Raw part: ``values`` (n,), starting at the target's own numbers, which is the identity. With ``per_output=2`` it learns
    as many numbers as gain and bias of a norm behind the layer: the control of Frankle et al. 2021 (section 4), whose point
    is that BatchNorm's numbers do more than as many others.
    """

    per_output: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        number(self.per_output, "per_output", above=0)
        object.__setattr__(self, "seed", count(self.seed, "seed", least=-(2**63), most=2**63 - 1))

    def places(self, site: Site) -> Tensor:
        """The places (n,) in the flat weight, int64, each once, in their order."""
        order = torch.randperm(math.prod(site.shape), generator=generator(self.seed, "subset", site.label))
        return order[: self._count(site)].sort().values

    def _count(self, site: Site) -> int:
        return min(max(1, round(self.per_output * site.shape[0])), math.prod(site.shape))

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"values": (self._count(site),)}

    def constants(self, site: Site) -> dict[str, Tensor]:
        """``places``."""
        return {"places": self.places(site)}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        weight = now[site.name].detach()
        return {"values": weight.flatten()[self.places(site).to(weight.device)].clone()}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return self.start(site, now, torch.Generator())

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        weight = now[site.name]
        return {site.name: weight.flatten().scatter(0, raw["places"], raw["values"].to(weight.dtype)).view(site.shape)}
