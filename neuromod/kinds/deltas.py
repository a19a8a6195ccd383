"""Small changes of a weight: a low-rank sum, a rank-one product."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neuromod.arguments import count, number, one_of
from neuromod.kinds.base import Edits, Kind, Now, Raw, require_matrix, uniform, write_weight_tap
from neuromod.kinds.gates import OPEN
from neuromod.kinds.surrogates import threshold
from neuromod.target.sites import Site
from neuromod.target.taps import DOWN, UP

FORMS = ("real", "hard")


@dataclass(frozen=True)
class LowRankDelta(Kind):
    """``W' = W + (alpha / rank) B A``, ``A`` (rank, fan_in), ``B`` (out, rank). Hu et al. 2021, eq. 3.

    ``A ~ U(-1, 1) / sqrt(fan_in)`` and ``B = 0``: the identity. ``alpha`` defaults to ``rank`` (a factor of one). A row a
    sample is added behind a linear layer, ``W x + B (A x)``, and no weights are built.
    """

    rank: int = 4
    alpha: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", count(self.rank, "rank", least=1))
        if self.alpha is not None:
            number(self.alpha, "alpha")

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
        if "delta" in raw:
            return {site.name: now[site.name] + raw["delta"]}
        if raw["a"].ndim == 3:
            return {f"{site.module}.{DOWN}": raw["a"], f"{site.module}.{UP}": self._scaled(raw["b"])}
        return {site.name: now[site.name] + self._delta(site, raw)}

    def gathers(self, site: Site) -> bool:
        """In linear layers ``(W + B A) x = W x + B (A x)``."""
        return site.batch is not None and len(site.shape) == 2

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        return {"delta": self._delta(site, raw)}

    def _delta(self, site: Site, raw: Raw) -> Tensor:
        return (self._scaled(raw["b"]) @ raw["a"]).reshape(site.shape)

    def _scaled(self, b: Tensor) -> Tensor:
        factor = 1.0 if self.alpha is None else self.alpha / self.rank
        return b if factor == 1 else factor * b


@dataclass(frozen=True)
class Rank1(Kind):
    """``W' = W * (g(s) g(r)^T)``: ``s`` (out,), ``r`` (in,), the same for every element of a kernel.

    ``"real"``: ``g(s) = s``, BatchEnsemble (Wen et al. 2020, eq. 1), which starts at random signs; the identity is all ones.
    ``"hard"``: ``g(s) = 1[s >= 0]``, straight-through, a binary mask of rank one, which starts open. A row per sample scales
    inputs and outputs of the layer, ``(W * s r^T) x = s * (W (r * x))``, and no weights are built.
    """

    form: Literal["real", "hard"] = "real"

    def __post_init__(self) -> None:
        one_of(self.form, "a rank-one form", FORMS)

    @property
    def hard(self) -> bool:
        return self.form == "hard"

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        require_matrix(self, site)
        return {"s": (site.shape[0],), "r": (site.shape[1],)}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        def signs(size: tuple[int, ...]) -> Tensor:
            return (torch.randint(0, 2, size, generator=rng) * 2 - 1).to(now[site.name])

        if self.hard:
            return self.identity(site, now)
        return {part: signs(shape) for part, shape in self.shapes(site).items()}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor]:
        value = 1.0 if self.form == "real" else OPEN
        return {part: now[site.name].new_full(shape, value) for part, shape in self.shapes(site).items()}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        if "factor" in raw:
            return {site.name: now[site.name] * raw["factor"]}
        s, r = self.gain(raw["s"]), self.gain(raw["r"])
        if s.ndim == 2:
            return write_weight_tap(site, now, r, s)
        return {site.name: now[site.name] * self._outer(site, s, r)}

    def gathers(self, site: Site) -> bool:
        return site.batch is not None

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        """The product itself: a sum of such is of a higher rank."""
        return {"factor": self._outer(site, self.gain(raw["s"]), self.gain(raw["r"])).expand(site.shape).clone()}

    def gain(self, values: Tensor) -> Tensor:
        """The factors: ``values`` themselves, or {0, 1}."""
        return threshold(values) if self.hard else values

    def _outer(self, site: Site, s: Tensor, r: Tensor) -> Tensor:
        kernel = (1,) * (len(site.shape) - 2)
        return s.reshape(-1, 1, *kernel) * r.reshape(1, -1, *kernel)
