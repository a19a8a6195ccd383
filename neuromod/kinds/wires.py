"""Wires: a few new connections of a task, added to weights that stay as they are."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.arguments import number
from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw
from neuromod.kinds.surrogates import top_k
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Wires(Kind):
    """``W' = W + M * D``, ``M = 1`` on the ``round(density * n)`` largest ``|D|``; ``dL/dD = dL/dW'`` everywhere, straight-through.

    Raw part: ``delta`` D, of the weight's shape, born 0: the identity. At rest: ``index`` and ``value`` of the wires alone, int32
    and the dtype of D, 8 bytes a wire in float32. A wire may stand where the target has none (a weight of 0, or two modules
    that `neuromod.connect` joined). Left to itself the choice is free, as in DNW (Wortsman et al. 2019) over a frozen
    network; a `neuromod.rewiring.Rewiring` moves the wires by its rule instead.

    Args:
        density: the share in (0, 1] of the places of a weight that have a wire; at least one.

    """

    density: float = 0.01

    def __post_init__(self) -> None:
        number(self.density, "density, the share of places that have a wire,", above=0, most=1)

    @property
    def wired(self) -> str:
        return "delta"

    def count(self, site: Site) -> int:
        """Wires of a site."""
        kept = round(self.density * math.prod(site.shape))
        if kept == 0:
            rule = "a site has at least one wire"
            raise RefusedError(
                f"{rule}; density {self.density} of {site.name!r}, {site.shape}, leaves none; raise density, or exclude it"
            )
        return kept

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"delta": site.shape}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return {"delta": torch.zeros_like(now[site.name])}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return {"delta": torch.zeros_like(now[site.name])}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        weight = now[site.name]
        if "index" in raw:
            grown = weight.flatten().index_add(0, raw["index"].long(), raw["value"].to(weight.dtype))
            return {site.name: grown.view(site.shape)}
        return {site.name: weight + (raw["sum"] if "sum" in raw else self._sparse(site, raw["delta"]))}

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """A place without a wire has 0."""
        return values * wires

    def room(self, site: Site) -> tuple[int, int]:
        return 0, self.count(site)

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        """What the wires add, whole, as ``sum``: that of several rows has the wires of all."""
        return {"sum": self.edits(site, raw, {site.name: torch.zeros_like(now[site.name])})[site.name]}

    def freeze(self, site: Site, raw: Raw) -> dict[str, Tensor]:
        """Index and value of each wire, in the order of the flat weight."""
        if "index" in raw:
            return {part: value.clone() for part, value in raw.items()}
        with torch.no_grad():
            delta = raw["delta"].detach().flatten()
            index = top_k(delta, self.count(site)).nonzero().squeeze(1)
            return {"index": index.int(), "value": delta[index]}

    def at_rest(self, site: Site) -> dict[str, Tensor]:
        count = self.count(site)
        return {"index": torch.empty(count, dtype=torch.int32), "value": torch.empty(count)}

    def check_rest(self, site: Site, raw: Raw) -> None:
        """Refuse an index that is no place of the weight."""
        index, places = raw["index"], math.prod(site.shape)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < places:
            raise RefusedError(
                f"a wire stands at a place of its weight; {site.name!r} has {places}, got {int(index.min())} to "
                f"{int(index.max())}; the file is damaged"
            )

    def _sparse(self, site: Site, delta: Tensor) -> Tensor:
        sparse: Tensor = _Largest.apply(delta, self.count(site))
        return sparse


class _Largest(torch.autograd.Function):
    """The entries of largest magnitude, the rest 0, with a gradient to all of them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(delta: Tensor, k: int) -> Tensor:
        return delta * torch.ops.neuromod.largest(delta, k)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[object, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
