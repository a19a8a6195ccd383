"""Small changes of a weight: a low-rank sum, a rank-one product."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw, require_matrix, uniform
from neuromod.sites import Site


@dataclass(frozen=True)
class LowRankDelta(Kind):
    """``W' = W + (alpha / rank) B A``, ``A`` (rank, fan_in), ``B`` (out, rank). Hu et al. 2021, eq. 3.

    ``A ~ U(-1, 1) / sqrt(fan_in)`` and ``B = 0``: the identity. ``alpha`` defaults to ``rank`` (a factor of one).
    """

    rank: int = 4
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise RefusedError(f"rank must be at least 1; got {self.rank}; pass the number of directions")

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        require_matrix(self, site)
        return {"a": (self.rank, site.fan_in), "b": (site.shape[0], self.rank)}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        shapes = self.shapes(site)
        like = now[site.name]
        return {"a": uniform(shapes["a"], 1 / math.sqrt(site.fan_in), like, rng), "b": like.new_zeros(shapes["b"])}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        shapes = self.shapes(site)
        like = now[site.name]
        # A must not vanish with B, or neither would ever receive a gradient: its rows are the first input directions.
        return {"a": torch.eye(*shapes["a"]).to(like), "b": like.new_zeros(shapes["b"])}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        factor = (self.alpha or self.rank) / self.rank
        return {site.name: now[site.name] + factor * (raw["b"] @ raw["a"]).reshape(site.shape)}


@dataclass(frozen=True)
class Rank1(Kind):
    """``W' = W * (s r^T)``: ``s`` (out,), ``r`` (in,), the same for every element of a kernel.

    BatchEnsemble (Wen et al. 2020, eq. 1) starts at random signs; the identity is all ones.
    """

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        require_matrix(self, site)
        return {"s": (site.shape[0],), "r": (site.shape[1],)}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        def signs(size: tuple[int, ...]) -> Tensor:
            return (torch.randint(0, 2, size, generator=rng) * 2 - 1).to(now[site.name])

        return {part: signs(shape) for part, shape in self.shapes(site).items()}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return {part: now[site.name].new_ones(shape) for part, shape in self.shapes(site).items()}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        kernel = (1,) * (len(site.shape) - 2)
        s, r = raw["s"].reshape(-1, 1, *kernel), raw["r"].reshape(1, -1, *kernel)
        return {site.name: now[site.name] * s * r}
