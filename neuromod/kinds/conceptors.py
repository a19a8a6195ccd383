"""Conceptors: the channels of an output mixed by one symmetric matrix."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuromod.arguments import count, shown
from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw, write_mix
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Conceptor(Kind):
    """``h' = C h``, over the channels, with a symmetric matrix C (Jaeger 2014, section 3.2, arXiv 1403.3369).

    Raw part: ``half`` (C (C + 1) / 2,), the entries of C on and above its diagonal, row by row: `upper` gives them, `whole` the
    matrix again. Starts at the identity, C = I, the conceptor of an infinite aperture. One that is computed from states
    (`neuromod.reservoirs.conceptor`) is put into a task's row by `neuromod.give`; it can also be learned.
    """

    roles: ClassVar[tuple[str, ...]] = ("output",)

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        (n,) = site.shape
        return {"half": (n * (n + 1) // 2,)}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return {"half": upper(torch.eye(*site.shape))}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return {"half": upper(torch.eye(*site.shape))}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return write_mix(site, now, whole(raw["half"], site.shape[0]))


def upper(matrix: Tensor) -> Tensor:
    """The entries (..., n (n + 1) / 2) of square matrices (..., n, n) on and above their diagonal, row by row."""
    if not isinstance(matrix, Tensor) or matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise RefusedError(f"a half is that of a square matrix; got {shown(matrix)}; pass a tensor (..., n, n)")
    rows, columns = torch.triu_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., rows, columns]


def whole(half: Tensor, n: int) -> Tensor:
    """The symmetric matrices (..., n, n) whose entries on and above the diagonal are ``half`` (..., n (n + 1) / 2)."""
    n = count(n, "units of a matrix", most=100_000)
    if not isinstance(half, Tensor) or not half.ndim or half.shape[-1] != n * (n + 1) // 2:
        raise RefusedError(
            f"half of a matrix of {n} units is {n * (n + 1) // 2} numbers; got {shown(half)}; correct it"
        )
    row = torch.arange(n, device=half.device)
    low, high = torch.minimum(row[:, None], row), torch.maximum(row[:, None], row)
    # In front of row r of the upper half lie r rows of lengths n, n - 1, ...
    place = low * n - low * (low - 1) // 2 + high - low
    return half[..., place]
