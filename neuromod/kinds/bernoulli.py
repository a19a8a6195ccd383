"""Masks that are drawn while they train: Zhou's supermasks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.arguments import flag
from neuromod.kinds.base import Edits, Now, Raw
from neuromod.kinds.masks import Mask
from neuromod.kinds.surrogates import bernoulli
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Bernoulli(Mask):
    """Zhou's supermask: ``M ~ Bernoulli(sigmoid(s))`` in training, ``M = 1[sigmoid(s) >= .5]`` in evaluation.

    ``dL/ds = dL/dM p (1 - p)``; scores start at 0. With ``rescale`` (dynamic weight rescaling)
    ``W' = W * M * size(M) / sum(M)`` and the gradient flows through the sum. Zhou et al. 2019, section 5. The paper
    also samples at test time: pass ``draw=i`` to the model in evaluation.
    """

    rescale: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag(self.rescale, "rescale")

    @property
    def binary(self) -> bool:
        return super().binary and not self.rescale

    @property
    def wired(self) -> str | None:
        return "score" if super().binary else None

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return {"score": now[site.name].new_zeros(self.size(site))}

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """Wires are drawn with a probability of a half or more, the others with one of 1e-13."""
        return torch.where(wires != 0, values.clamp(min=0.0), -30.0)

    def strength(self, values: Tensor) -> Tensor:
        return values

    def noise(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"noise": self.size(site)}

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The mask drawn by ``raw["noise"]``; without noise, of the scores of 0 and above."""
        return bernoulli(raw["score"], raw.get("noise"))

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        if not self.rescale or "factor" in raw:
            return super().edits(site, raw, now)
        weight = now[site.name]
        mask = self.whole(site, raw, weight.dtype)
        return {site.name: weight * mask * (mask.numel() / mask.sum().clamp(min=1))}
