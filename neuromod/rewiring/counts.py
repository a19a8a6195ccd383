"""How many wires each layer has: uniform, Erdős–Rényi, Erdős–Rényi kernel, or as given."""

import math
from collections.abc import Mapping, Sequence

from neuromod.arguments import named, number, one_of
from neuromod.errors import RefusedError, nearest
from neuromod.target.sites import Site, refuse_sites

SCOPES = ("uniform", "er", "erk")


def wire_counts(sites: Sequence[Site], density: float, scope: str | Mapping[str, float] = "erk") -> dict[str, int]:
    """Wires of each site, by its name.

    ``"uniform"`` gives every site ``round(density * n)``. ``"er"`` and ``"erk"`` give site l a density in proportion to
    ``(n_in + n_out) / (n_in n_out)`` or, with the kernel, to ``sum(shape) / prod(shape)``, such that all together have ``density`` of
    the places; a layer that would have more than all of its places is dense, and the rest is solved again (Mocanu et al. 2018;
    Evci et al. 2020, section 3). They leave ``floor((1 - density_l) n_l)`` places without a wire. A mapping gives densities by
    the name of the site, and ``density`` is not used. Refused: a site that would have no wire.

    >>> from neuromod.target.sites import Site
    >>> lenet = [Site(n, "weight", s, n) for n, s in (("a", (300, 784)), ("b", (100, 300)), ("c", (10, 100)))]
    >>> wire_counts(lenet, 0.1, "erk")
    {'a': 18715, 'b': 6906, 'c': 1000}

    Args:
        sites: weights.
        density: the share in (0, 1] of all places that have a wire.
        scope: one of `SCOPES`, or densities by site.

    """
    refuse_sites(sites)
    sizes = {site.name: math.prod(site.shape) for site in sites}
    if not isinstance(scope, str):
        counts = _given(sizes, named(scope, "scope, densities by the name of a site,"))
    else:
        density = number(density, "density, the share of places that have a wire,", above=0, most=1)
        one_of(scope, "scope", SCOPES)
        if scope == "uniform":
            counts = {name: round(density * n) for name, n in sizes.items()}
        else:
            densities = _erdos_renyi({site.name: _odds(site, scope) for site in sites}, sizes, density)
            counts = {name: n - _zeros(n, 1 - densities[name]) for name, n in sizes.items()}
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        rule = "a layer has at least one wire"
        raise RefusedError(
            f"{rule}; density {density} leaves {empty[0]!r}, of {sizes[empty[0]]} places, none; raise density, or exclude it"
        )
    return counts


def _given(sizes: Mapping[str, int], densities: Mapping[str, float]) -> dict[str, int]:
    strange = [name for name in densities if name not in sizes]
    lacking = [name for name in sizes if name not in densities]
    if strange or lacking:
        rule = "densities by site name every site that is rewired, and no other"
        near = nearest((strange or lacking)[0], sizes if strange else densities)
        raise RefusedError(
            f"{rule}; {(strange or lacking)[0]!r} is {'none' if strange else 'missing'}; nearest: {near}"
        )
    return {
        name: round(number(densities[name], f"the density of {name!r}", above=0, most=1) * n)
        for name, n in sizes.items()
    }


def _odds(site: Site, scope: str) -> float:
    """What a layer's density is in proportion to."""
    shape = site.shape if scope == "erk" else site.shape[:2]
    return sum(shape) / math.prod(shape)


def _zeros(size: int, sparsity: float) -> int:
    return math.floor(sparsity * size)


def _erdos_renyi(odds: Mapping[str, float], sizes: Mapping[str, int], density: float) -> dict[str, float]:
    dense: set[str] = set()
    while True:
        rest = [name for name in odds if name not in dense]
        # Whole places without a wire, layer by layer, as those who published it count.
        room = sum(n - _zeros(n, 1 - density) if name in rest else -_zeros(n, 1 - density) for name, n in sizes.items())
        epsilon = room / sum(odds[name] * sizes[name] for name in rest) if rest else 0.0
        most = max((odds[name] for name in rest), default=0.0)
        if epsilon * most <= 1:
            return {name: 1.0 if name in dense else epsilon * odds[name] for name in odds}
        # Layers of the same odds become dense together, whatever their order.
        dense |= {name for name in rest if odds[name] == most}
