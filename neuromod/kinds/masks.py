"""Binary masks on weights: ``W' = W * M`` with ``M`` exactly 0 or 1. Density is the share that is kept, always."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuromod.arguments import flag, number, shown
from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw, uniform
from neuromod.kinds.bits import masked, pack, packed_size, unpack
from neuromod.kinds.surrogates import bernoulli, threshold, top_k
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Mask(Kind):
    """``W' = W * M(s)``: what all masks share. Raw part: ``score``, of the weight's shape; at rest: ``bits``."""

    wired: ClassVar[str | None] = "score"

    @property
    def is_mask(self) -> bool:
        return True

    @property
    def binary(self) -> bool:
        return True

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"score": site.shape}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        """``s ~ U(-1, 1) / sqrt(fan_in)``: Kaiming uniform with a = sqrt(5), as in edge-popup and SupSup."""
        return {"score": uniform(site.shape, 1 / math.sqrt(site.fan_in), now[site.name], rng)}

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The mask of these scores, of the weight's shape, in their dtype."""
        raise NotImplementedError

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        raise RefusedError(
            f"a mask says which scores have given wires; {type(self).__name__} does not; give it hold(site, values, wires)"
        )

    def promise(self, gradient: Tensor) -> Tensor:
        """A weight that comes back has a sign already: it lowers the loss where the gradient to its score is negative."""
        return -gradient

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        weight = now[site.name]
        if "factor" in raw:
            return {site.name: weight * raw["factor"]}
        return {site.name: masked(weight, raw["bits"]) if "bits" in raw else weight * self.mask(site, raw)}

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        """The mask itself, as ``factor``: where weights sum to 1, a mixture of masks lies in [0, 1]."""
        return {"factor": self.edits(site, raw, {site.name: torch.ones_like(now[site.name])})[site.name]}

    def at_rest(self, site: Site) -> dict[str, Tensor]:
        return {"bits": torch.empty(packed_size(math.prod(site.shape)), dtype=torch.uint8)}

    def freeze(self, site: Site, raw: Raw) -> dict[str, Tensor]:
        """One bit per weight."""
        if "bits" in raw:
            return {"bits": raw["bits"].clone()}
        with torch.no_grad():
            return {"bits": pack(self.mask(site, raw))}


@dataclass(frozen=True)
class TopK(Mask):
    """Edge-popup: ``M = 1`` on the ``round(density * n)`` largest ``|s|`` of each site; ``dL/ds = dL/dW' * W * sign(s)``.

    Ramanujan et al. 2020, section 3. ``density`` in (0, 1] is the share kept; ties are broken by position.
    """

    density: float = 0.5

    def __post_init__(self) -> None:
        try:
            number(self.density, "density", above=0, most=1)
        except RefusedError:
            raise RefusedError(
                f"density must be in (0, 1]; got {shown(self.density)}; pass the share of weights to keep"
            ) from None

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The mask (of the weight's shape) of the largest scores."""
        return top_k(raw["score"], self.room(site)[0])

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """Scores of wires keep their sign and are above those of the others, which are positive, for ``dL/ds`` asks for a sign."""
        least = torch.finfo(values.dtype).tiny
        signs = torch.where(values < 0, -1.0, 1.0).to(values)
        return torch.where(wires != 0, signs * values.abs().clamp(min=2 * least), least)

    def room(self, site: Site) -> tuple[int, int]:
        kept = round(self.density * math.prod(site.shape))
        return kept, kept

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return {"score": torch.ones_like(now[site.name])} if self.density == 1 else None


@dataclass(frozen=True)
class Threshold(Mask):
    """``M = 1[s >= at]``, ``dL/ds = dL/dW' * W``. SupSup: ``at=0`` (Wortsman et al. 2020).

    Piggyback (Mallya et al. 2018): ``at=5e-3, strict=True, constant=1e-2``, so that training starts at the target.

    Args:
        at: the score from which on a weight is kept.
        strict: a score of exactly ``at`` is not kept.
        constant: where all scores start; None draws them as all masks do.

    """

    at: float = 0.0
    strict: bool = False
    constant: float | None = None

    def __post_init__(self) -> None:
        number(self.at, "at, the score from which on a weight is kept,")
        flag(self.strict, "strict")
        if self.constant is not None:
            number(self.constant, "constant, where all scores start,")

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        if self.constant is None:
            return super().start(site, now, rng)
        return {"score": torch.full_like(now[site.name], self.constant)}

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The mask of the scores at or above ``at``."""
        return threshold(raw["score"], self.at, strict=self.strict)

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """Scores at the threshold, or as near to it as their dtype tells apart, on the wrong side of which they were."""
        near = torch.finfo(values.dtype).eps * max(abs(self.at), 1e-3)
        return torch.where(wires != 0, values.clamp(min=self.at + near), values.clamp(max=self.at - near))

    def strength(self, values: Tensor) -> Tensor:
        return values - self.at

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        """Piggyback's distance above the threshold: 5e-3."""
        return {"score": torch.full_like(now[site.name], self.at + 5e-3)}


@dataclass(frozen=True)
class Bernoulli(Mask):
    """Zhou's supermask: ``M ~ Bernoulli(sigmoid(s))`` in training, ``M = 1[sigmoid(s) >= .5]`` in evaluation.

    ``dL/ds = dL/dM p (1 - p)``; scores start at 0. With ``rescale`` (dynamic weight rescaling)
    ``W' = W * M * size(M) / sum(M)`` and the gradient flows through the sum. Zhou et al. 2019, section 5. The paper
    also samples at test time: pass ``draw=i`` to the model in evaluation.
    """

    rescale: bool = False

    def __post_init__(self) -> None:
        flag(self.rescale, "rescale")

    @property
    def binary(self) -> bool:
        return not self.rescale

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return {"score": torch.zeros_like(now[site.name])}

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """Wires are drawn with a probability of a half or more, the others with one of 1e-13."""
        return torch.where(wires != 0, values.clamp(min=0.0), -30.0)

    def strength(self, values: Tensor) -> Tensor:
        return values

    def noise(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"noise": site.shape}

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The mask drawn by ``raw["noise"]``; without noise, of the scores of 0 and above."""
        return bernoulli(raw["score"], raw.get("noise"))

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        if not self.rescale or "factor" in raw:
            return super().edits(site, raw, now)
        weight = now[site.name]
        mask = unpack(raw["bits"], site.shape, weight.dtype) if "bits" in raw else self.mask(site, raw)
        return {site.name: weight * mask * (mask.numel() / mask.sum().clamp(min=1))}
