"""What a reservoir is made of: recurrent weights of three forms at one spectral radius, input weights, a bias; float64, on the CPU."""

import torch
from torch import Tensor

from neuromod.arguments import count, number, one_of, shown
from neuromod.errors import RefusedError
from neuromod.seeds import generator

FORMS = ("uniform", "sparse", "ring")


def recurrent(units: int, form: str, radius: float, density: float, seed: int) -> Tensor:
    """``W`` (units, units), whose largest eigenvalue has the magnitude ``radius``.

    "uniform": all entries U[-1, 1]; "sparse": ``round(density units^2)`` of them, the rest 0; "ring": unit i - 1 feeds unit i with
    the weight ``radius``, and nothing else does (simple cycle reservoir, Rodan & Tino 2011).

    Refused: sparse entries that make no loop at all, whose radius is 0 at any scale.

    Args:
        units: N.
        form: one of `FORMS`.
        radius: of the spectrum, 0 or more.
        density: the share of entries kept, of the form "sparse".
        seed: of the draw.

    """
    units, radius = count(units, "units of a reservoir", least=1, most=100_000), number(radius, "radius", least=0)
    density = number(density, "density", above=0, most=1)
    if one_of(form, "form of a reservoir", FORMS) == "ring":
        return radius * torch.eye(units, dtype=torch.float64).roll(1, 0)
    drawn = _uniform((units, units), generator("reservoir", "recurrent", seed))
    if form == "sparse":
        kept = count(round(density * units**2), "wires of a reservoir")
        order = torch.rand(units**2, generator=generator("reservoir", "wires", seed)).argsort()
        drawn.view(-1)[order[kept:]] = 0
    return scaled(drawn, radius)


def scaled(weight: Tensor, radius: float) -> Tensor:
    """A square matrix times the number that makes its spectral radius ``radius``. Refused: a matrix whose radius is 0."""
    found = spectral_radius(weight)
    if found < 1e-12:
        raise RefusedError(
            f"recurrent weights can be scaled where they have a loop; the spectral radius of {len(weight)} units is {found:g}; "
            "raise density, or draw by another seed"
        )
    return weight * (radius / found)


def spectral_radius(weight: Tensor) -> float:
    """The largest magnitude of an eigenvalue of a square matrix."""
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[0] != weight.shape[1] or not len(weight):
        raise RefusedError(f"a spectral radius is that of a square matrix; got {shown(weight)}; correct it")
    if not weight.is_floating_point() or not bool(torch.isfinite(weight).all()):
        raise RefusedError(f"a spectral radius is that of finite real floats; got {shown(weight)}; correct it")
    return float(torch.linalg.eigvals(weight.detach().double().cpu()).abs().max())


def inputs(units: int, channels: int, form: str, scale: float, seed: int) -> Tensor:
    """``W_in`` (units, channels): U[-scale, scale]; of a ring, scale times signs from the decimal digits of pi, nothing drawn.

    Digits 0 to 4 give minus, 5 to 9 plus, as Rodan & Tino 2011 (section III) have it.

    Args:
        units: N.
        channels: numbers of an input.
        form: as of `recurrent`.
        scale: of the weights, 0 or more.
        seed: of the draw.

    """
    channels, scale = count(channels, "inputs of a reservoir", least=1, most=100_000), number(scale, "scale", least=0)
    if form == "ring":
        signs = torch.tensor([1.0 if digit > 4 else -1.0 for digit in pi_digits(units * channels)], dtype=torch.float64)
        return scale * signs.view(units, channels)
    return scale * _uniform((units, channels), generator("reservoir", "input", seed))


def bias(units: int, scale: float, seed: int) -> Tensor:
    """``b`` (units,): U[-scale, scale].

    Args:
        units: N.
        scale: 0 or more; 0 for none.
        seed: of the draw.

    """
    return number(scale, "bias_scale", least=0) * _uniform((units,), generator("reservoir", "bias", seed))


def pi_digits(many: int) -> list[int]:
    """The first decimals of pi behind the point, by Machin's formula in whole numbers."""
    one = int("1" + "0" * (many + 10))

    def arctan_of_inverse(x: int) -> int:
        term = total = one // x
        divisor, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // divisor)
            divisor, sign = divisor + 2, -sign
        return total

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
    return [int(digit) for digit in str(pi)[1 : many + 1]]


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 2 - 1
