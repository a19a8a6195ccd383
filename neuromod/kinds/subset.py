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
        """The places (n,) in the flat weight, each once, in their order."""
        places: Tensor = draw_places(self.seed, site.label, self._count(site), math.prod(site.shape))
        return places

    def _count(self, site: Site) -> int:
        return min(max(1, round(self.per_output * site.shape[0])), math.prod(site.shape))

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"values": (self._count(site),)}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        weight = now[site.name].detach()
        return {"values": weight.flatten()[self.places(site).to(weight.device)].clone()}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return self.start(site, now, torch.Generator())

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        weight = now[site.name]
        moved = weight.flatten().scatter(0, self.places(site).to(weight.device), raw["values"].to(weight.dtype))
        return {site.name: moved.view(site.shape)}


# An operator of its own, for a generator can't be made inside a compiled graph; `torch.compiler.assume_constant_result`
# would do too, but imports torch._dynamo, 980 modules.
@torch.library.custom_op("neuromod::draw_places", mutates_args=())
def draw_places(seed: int, label: str, count: int, total: int) -> Tensor:
    """``count`` of ``total`` places, int64 (count,), each once, in their order.

    Args:
        seed: of the draw, an integer.
        label: of the site, so that each has a draw of its own.
        count: how many, at most ``total``.
        total: numbers of the flat weight.

    """
    return torch.randperm(total, generator=generator(seed, "subset", label))[:count].sort().values


@draw_places.register_fake
def _(seed: int, label: str, count: int, total: int) -> Tensor:
    return torch.empty(count, dtype=torch.long)
