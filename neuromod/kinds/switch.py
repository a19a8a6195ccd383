"""`Switch`: which part of a difference that all tasks share is a task's own."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neuromod.arguments import one_of
from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw, uniform
from neuromod.kinds.bits import pack_digits, packed_size, refuse_digits, unpack_digits
from neuromod.kinds.surrogates import ternary, threshold
from neuromod.target.delta import DELTA
from neuromod.target.sites import Site

FORMS = ("mask", "sign", "ternary")


def least_score(site: Site) -> float:
    """The magnitude from which on a score of a ternary switch counts: half of the largest that is drawn at a start."""
    return 0.5 / math.sqrt(site.fan_in)


@dataclass(frozen=True)
class Switch(Kind):
    """``W' = W + a M * D`` or, with signs, ``W + a S * D``: D stands frozen beside W, and is the same for every task.

    ``M = 1[s >= 0]``, ``S = 2 M - 1``, or of a ternary switch ``S = sign(s) 1[|s| >= 1 / (2 sqrt(fan_in))]``, with ``dL/ds = dL/dM``
    (straight-through, as of a mask). Raw parts: ``score``, of the weight's shape, and ``scale`` a (1,); at rest: ``bits`` and ``scale``,
    one bit per weight and task, 1.6 where it is ternary. D is a buffer beside
    the weight that `neuromod.shared_delta` or `neuromod.random_delta` put there, so it is under the target's fingerprint.

    Over a sum of task vectors masks are those of TALL (Wang et al. 2024, eq. 5); over their elected signs and magnitudes those of
    EMR, whose rescaler is a (Huang et al. 2024, section 3); signs over ones are BitDelta (Liu et al. 2024, eq. 1), signs and zeros over
    ones T-Switch (Qi et al. 2025). `neuromod.read_switch` reads all four off tuned networks.

    Args:
        form: ``"mask"``, ``"sign"`` or ``"ternary"``.

    """

    form: Literal["mask", "sign", "ternary"] = "mask"

    def __post_init__(self) -> None:
        one_of(self.form, "the form of a switch", FORMS)

    @property
    def switched(self) -> str | None:
        return self.form

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"score": site.shape, "scale": (1,)}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        """``s ~ U(-1, 1) / sqrt(fan_in)``, as of all masks, and ``a = 1``."""
        like = now[site.name]
        return {"score": uniform(site.shape, 1 / math.sqrt(site.fan_in), like, rng), "scale": like.new_ones(1)}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        """``a = 0``, and all of D behind it."""
        like = now[site.name]
        return {"score": torch.full_like(like, 2 * least_score(site)), "scale": like.new_zeros(1)}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        added = raw["sum"] if "sum" in raw else self._added(site, raw, now)
        return {site.name: now[site.name] + added}

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        """What is added, whole, as ``sum``."""
        return {"sum": self._added(site, raw, now)}

    def digits(self, site: Site) -> tuple[int, int]:
        return math.prod(site.shape), 3 if self.form == "ternary" else 2

    def check_rest(self, site: Site, raw: Raw) -> None:
        refuse_digits(site, raw, self.digits(site)[1])

    def at_rest(self, site: Site) -> dict[str, Tensor]:
        bits = torch.empty(packed_size(*self.digits(site)), dtype=torch.uint8)
        return {"bits": bits, "scale": torch.empty(1)}

    def freeze(self, site: Site, raw: Raw) -> dict[str, Tensor]:
        """One bit per weight, and the scale."""
        scale = raw["scale"].detach().clone()
        if "bits" in raw:
            return {"bits": raw["bits"].clone(), "scale": scale}
        with torch.no_grad():
            digits = self._taken(site, raw, raw["score"].dtype)
            return {"bits": pack_digits(digits + (self.form == "ternary"), self.digits(site)[1]), "scale": scale}

    def _added(self, site: Site, raw: Raw, now: Now) -> Tensor:
        delta = now.get(site.name + DELTA)
        if delta is None:
            raise RefusedError(
                f"a switch acts on a difference that stands beside the weight; {site.name!r} has none; make the network "
                "with shared_delta(base, tuned) or random_delta(base), or exclude the site"
            )
        taken = self._taken(site, raw, delta.dtype)
        return (2 * taken - 1 if self.form == "sign" else taken) * delta * raw["scale"]

    def _taken(self, site: Site, raw: Raw, dtype: torch.dtype) -> Tensor:
        """0 or 1, of a ternary switch -1, 0 or 1."""
        ternary_ = self.form == "ternary"
        if "bits" in raw:
            digits = unpack_digits(raw["bits"], site.shape, dtype, self.digits(site)[1])
            return digits - 1 if ternary_ else digits
        return ternary(raw["score"], least_score(site)) if ternary_ else threshold(raw["score"])
