"""Masks on weights: ``W' = W * M`` with ``M`` exactly 0 or 1. Density is the share that is kept, always."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuromod.arguments import count, flag, number, shown
from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw, uniform
from neuromod.kinds.bits import masked, pack_digits, packed_size, refuse_digits, unpack_digits
from neuromod.kinds.surrogates import threshold, top_k
from neuromod.seeds import generator
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Mask(Kind):
    """``W' = W * M(s)``: what all masks share. Raw part: ``score``, a number for each place that is searched; at rest: ``bits``.

    With ``searched`` < 1 the mask is searched at that share of the places alone, drawn from ``seed``. The others are frozen, for all tasks
    alike, at values that the kind draws as those of a start; they have no score, and nothing of them is stored (partially frozen
    random networks, Otsuka et al. 2024: of the frozen places some are pruned and some locked).

    Args:
        searched: the share of places of each weight that are searched, in (0, 1]; of a weight that has any, one at least.
        locked: the share in [0, 1] of the frozen places that is kept, the others are out; None: as many as a start keeps.
        seed: of which they are, and of the values of the others.

    """

    searched: float = field(default=1.0, kw_only=True)
    locked: float | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        number(self.searched, "searched, the share of places that are searched,", above=0, most=1)
        object.__setattr__(self, "seed", count(self.seed, "seed"))
        if self.locked is not None:
            number(self.locked, "locked, the share of frozen places that is kept,", least=0, most=1)
        if self.searched == 1 and (self.seed or self.locked is not None):
            got = f"seed={self.seed}" if self.seed else f"locked={self.locked}"
            raise RefusedError(
                f"seed and locked say which places are frozen, and how; searched=1 freezes none; got {got}; drop it"
            )

    @property
    def is_mask(self) -> bool:
        return True

    @property
    def binary(self) -> bool:
        return self.searched == 1 and self.values == (0, 1)

    @property
    def wired(self) -> str | None:
        return "score" if self.binary else None

    @property
    def values(self) -> tuple[int, ...]:
        """The values of a mask, each one more than the last."""
        return (0, 1)

    def size(self, site: Site) -> tuple[int, ...]:
        """The shape of its scores: that of the weight, or (n,) where n places are searched."""
        total = math.prod(site.shape)
        return site.shape if self.searched == 1 else (max(1, round(self.searched * total)),)

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"score": self.size(site)}

    def constants(self, site: Site) -> dict[str, Tensor]:
        """Of a mask that is searched in part: ``places`` (n,) in the flat weight, and ``held`` int8, the mask where it is frozen."""
        if self.searched == 1:
            return {}
        rng, total = generator(self.seed, "searched", site.label), math.prod(site.shape)
        places, frozen = torch.randperm(total, generator=rng).split([*self.size(site), total - self.size(site)[0]])
        held = torch.zeros(total, dtype=torch.int8)
        if self.locked is None:
            held[frozen] = self.freeze_scores(site, self.scores(site, frozen.shape, torch.empty(0), rng)).to(held.dtype)
        else:
            held[frozen[: round(self.locked * len(frozen))]] = 1
        return {"places": places.sort().values, "held": held}

    def scores(self, site: Site, shape: tuple[int, ...], like: Tensor, rng: torch.Generator) -> Tensor:
        """Scores as they are drawn: ``s ~ U(-1, 1) / sqrt(fan_in)``, Kaiming uniform with a = sqrt(5), as in edge-popup and SupSup.

        Args:
            site: of the weight.
            shape: of the scores.
            like: a tensor of their dtype and on their device.
            rng: a CPU generator.

        """
        return uniform(shape, 1 / math.sqrt(site.fan_in), like, rng)

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return {"score": self.scores(site, self.size(site), now[site.name], rng)}

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The mask of these scores, of their shape and dtype."""
        raise NotImplementedError

    def freeze_scores(self, site: Site, scores: Tensor) -> Tensor:
        """The mask of the places that are not searched, from scores that were drawn for them."""
        return self.mask(site, {"score": scores})

    def whole(self, site: Site, raw: Raw, dtype: torch.dtype) -> Tensor:
        """The mask of the whole weight, from scores or from bits.

        Args:
            site: of the weight.
            raw: ``score`` or ``bits``; of a mask that is searched in part the `constants` too.
            dtype: of a mask that is unpacked.

        """
        if "bits" in raw:
            digits = unpack_digits(raw["bits"], self.size(site), dtype, len(self.values))
            searched = digits + self.values[0] if self.values[0] else digits
        else:
            searched = self.mask(site, raw)
        if self.searched == 1:
            return searched
        return raw["held"].to(searched.dtype).scatter(0, raw["places"], searched).view(site.shape)

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
        if self.binary and "bits" in raw:
            return {site.name: masked(weight, raw["bits"])}
        return {site.name: weight * self.whole(site, raw, weight.dtype)}

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        """The mask itself, as ``factor``: where weights sum to 1, a mixture of masks lies between its values."""
        return {"factor": self.edits(site, raw, {site.name: torch.ones_like(now[site.name])})[site.name]}

    def digits(self, site: Site) -> tuple[int, int]:
        return math.prod(self.size(site)), len(self.values)

    def at_rest(self, site: Site) -> dict[str, Tensor]:
        return {"bits": torch.empty(packed_size(*self.digits(site)), dtype=torch.uint8)}

    def check_rest(self, site: Site, raw: Raw) -> None:
        """Refuse bytes that hold no digits of the base of its values."""
        refuse_digits(site, raw, len(self.values))

    def freeze(self, site: Site, raw: Raw) -> dict[str, Tensor]:
        """One bit for each place that is searched, or as many as its values need."""
        if "bits" in raw:
            return {"bits": raw["bits"].clone()}
        with torch.no_grad():
            return {"bits": pack_digits(self.mask(site, raw) - self.values[0], len(self.values))}


@dataclass(frozen=True)
class TopK(Mask):
    """Edge-popup: ``M = 1`` on the ``round(density * n)`` largest ``|s|`` of each site; ``dL/ds = dL/dW' * W * sign(s)``.

    Ramanujan et al. 2020, section 3. ``density`` in (0, 1] is the share kept; ties are broken by position.
    """

    density: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            number(self.density, "density", above=0, most=1)
        except RefusedError:
            raise RefusedError(
                f"density must be in (0, 1]; got {shown(self.density)}; pass the share of weights to keep"
            ) from None

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The mask of the largest scores."""
        return top_k(raw["score"], round(self.density * raw["score"].numel()))

    def freeze_scores(self, site: Site, scores: Tensor) -> Tensor:
        """As many as are left of what the whole weight keeps."""
        return top_k(scores, self.room(site)[0] - round(self.density * self.size(site)[0]))

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """Scores of wires keep their sign and are above those of the others, which are positive, for ``dL/ds`` asks for a sign."""
        least = torch.finfo(values.dtype).tiny
        signs = torch.where(values < 0, -1.0, 1.0).to(values)
        return torch.where(wires != 0, signs * values.abs().clamp(min=2 * least), least)

    def room(self, site: Site) -> tuple[int, int]:
        kept = round(self.density * math.prod(site.shape))
        return kept, kept

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return {"score": now[site.name].new_ones(self.size(site))} if self.density == 1 else None


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
        super().__post_init__()
        number(self.at, "at, the score from which on a weight is kept,")
        flag(self.strict, "strict")
        if self.constant is not None:
            number(self.constant, "constant, where all scores start,")

    def scores(self, site: Site, shape: tuple[int, ...], like: Tensor, rng: torch.Generator) -> Tensor:
        """Scores as they are drawn, or all at ``constant``; arguments as of all masks."""
        if self.constant is None:
            return super().scores(site, shape, like, rng)
        return like.new_full(shape, self.constant)

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
        """Piggyback's distance above the threshold: 5e-3. None where places are frozen out."""
        kept = self.searched == 1 or bool(
            self.constants(site)["held"].sum() == math.prod(site.shape) - self.size(site)[0]
        )
        return {"score": now[site.name].new_full(self.size(site), self.at + 5e-3)} if kept else None
