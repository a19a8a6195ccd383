"""Masks of more than two values: signs and zeros, and coats of nested masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.arguments import number, shown
from neuromod.errors import RefusedError
from neuromod.kinds.base import Now, Raw
from neuromod.kinds.masks import Mask
from neuromod.kinds.surrogates import ternary, top_k
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Signed(Mask):
    """``W' = W * M`` with ``M = sign(s) 1[|s| >= at / sqrt(fan_in)]``, one of -1, 0 and 1, and ``dL/ds = dL/dW' * W``.

    Signed supermasks (Koster et al. 2022). Scores start as of all masks, uniform up to ``1 / sqrt(fan_in)``, so that a share
    ``1 - at`` is kept at first, half of it with the sign turned. At rest five places are a byte, 1.6 bits a weight.

    Args:
        at: the threshold as a share of the largest score of the start, above 0.

    """

    at: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.at, "at, the threshold of a signed mask,", above=0)

    @property
    def values(self) -> tuple[int, ...]:
        return (-1, 0, 1)

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """The signs of the scores that are large enough."""
        return ternary(raw["score"], self._least(site))

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        """All ones, by scores that lie as far above the threshold as it is above 0; None where places are frozen."""
        return None if self.searched < 1 else {"score": torch.full_like(now[site.name], 2 * self._least(site))}

    def _least(self, site: Site) -> float:
        return self.at / math.sqrt(site.fan_in)


@dataclass(frozen=True)
class Coats(Mask):
    """``W' = W * M`` with ``M = sum_c M_c``, nested masks of the same scores, each of the largest ``|s|`` by a density of its own.

    Multicoated supermasks (Okoshi et al. 2022): a weight counts as often as there are coats that it is in, 0 to their
    number. ``dL/ds = dL/dW' * W * sign(s)``, once and not for each coat. At rest three coats are two bits a weight, two are 1.6.

    Args:
        densities: the share of weights in each coat, in (0, 1], from the widest to the narrowest.

    """

    densities: Sequence[float] = (0.5, 0.2, 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.densities
        if isinstance(given, str) or not isinstance(given, Sequence) or not given:
            raise RefusedError(f"coats are a list of densities, one or more; got {shown(given)}; pass (0.5, 0.2)")
        for density in given:
            number(density, "the density of a coat", above=0, most=1)
        if sorted(given, reverse=True) != list(given) or len(set(given)) < len(given):
            raise RefusedError(
                f"coats are nested, each narrower than the last; got {shown(given)}; sort them, each once"
            )
        object.__setattr__(self, "densities", tuple(given))

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(range(len(self.densities) + 1))

    def mask(self, site: Site, raw: Raw) -> Tensor:
        """In how many coats each place is."""
        return self._coats(raw["score"], self._kept(raw["score"].numel()))

    def freeze_scores(self, site: Site, scores: Tensor) -> Tensor:
        """As many in each coat as are left of what the whole weight keeps."""
        total, searched = self._kept(math.prod(site.shape)), self._kept(self.size(site)[0])
        return self._coats(scores, [a - b for a, b in zip(total, searched, strict=True)])

    def _kept(self, places: int) -> list[int]:
        return [round(density * places) for density in self.densities]

    def _coats(self, scores: Tensor, kept: Sequence[int]) -> Tensor:
        first, *others = kept
        return sum((top_k(scores.detach(), k) for k in others), top_k(scores, first))
