"""Gates: one non-negative factor a channel."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neuromod.arguments import number, one_of, shown
from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw, write_tap
from neuromod.kinds.surrogates import threshold
from neuromod.target.sites import Site

OPEN = 0.3
"""Where hard gates start: open, and not so near to shut that the first steps of an optimiser shut them all."""
FORMS = ("sigmoid", "doubled", "hard")


@dataclass(frozen=True)
class Gate(Kind):
    """``h' = g(z) * h``, per channel, with a logit ``z`` (C,).

    ``"sigmoid"``: ``g = sigmoid(z)``, starts at .5 (ANML, Beaulieu et al. 2020); it has no identity.
    ``"doubled"``: ``g = 2 sigmoid(z)``, starts at 1. ``"hard"``: ``g = 1[z >= 0]``, straight-through, starts open.
    The raw part of the logit is called ``code``, its name in saved states and stored files.
    ``spread`` > 0: logits start uniform in [-spread, spread] instead, drawn for each task, so that every task starts with
    another half of the units (HopSupSup, Wortsman et al. 2020, section 3.5).
    """

    form: Literal["sigmoid", "doubled", "hard"] = "sigmoid"
    spread: float = 0.0
    roles: ClassVar[tuple[str, ...]] = ("output",)

    def __post_init__(self) -> None:
        one_of(self.form, "a gate's form", FORMS)
        try:
            number(self.spread, "spread", least=0)
        except RefusedError:
            raise RefusedError(
                f"a gate's spread is 0 or more; got {shown(self.spread)}; pass 0 to start all units alike"
            ) from None

    @property
    def is_gate(self) -> bool:
        return True

    @property
    def hard(self) -> bool:
        return self.form == "hard"

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"code": site.shape}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        if self.spread:
            return {"code": self.spread * (2 * torch.rand(site.shape, generator=rng) - 1)}
        return {"code": self._alike(site)}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return None if self.form == "sigmoid" else {"code": self._alike(site)}

    def _alike(self, site: Site) -> Tensor:
        return torch.full(site.shape, OPEN if self.form == "hard" else 0.0)

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return write_tap(site, now, self.factor(raw), None)

    def factor(self, raw: Raw) -> Tensor:
        """The factors of a row, or those that it was blended to."""
        return raw["gain"] if "gain" in raw else self.gain(raw["code"])

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        return {"gain": self.gain(raw["code"])}

    def gain(self, code: Tensor) -> Tensor:
        """The factors of logits, of their shape: in (0, 1), (0, 2) or {0, 1}."""
        if self.form == "hard":
            return threshold(code)
        return torch.sigmoid(code) * (2.0 if self.form == "doubled" else 1.0)
