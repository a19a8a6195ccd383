"""The algebra of conceptors (Jaeger 2014, arXiv 1403.3369, section 3): soft projections with singular values in [0, 1].

Args:
    a, b: conceptors (N, N): symmetric, with eigenvalues from 0 to 1; diagonal ones are vectors (N,) where that is said.
    share: m, how far the second counts.

"""

import sys
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import number, shown
from neuromod.errors import RefusedError
from neuromod.reservoirs.network import finite

SLACK = 1e-8
"""How far eigenvalues may lie outside [0, 1] and still be taken for rounding, in float64; of other dtypes `ROUNDINGS` of theirs."""
ROUNDINGS = 32


def correlation(states: Tensor) -> Tensor:
    """``R = E[x x^T]`` (N, N) of states (..., T, N), in float64."""
    x = finite(_states(states), "states")
    x = x.reshape(-1, x.shape[-1])
    return x.T @ x / len(x)


def conceptor(states: Tensor, aperture: float) -> Tensor:
    """``C = R (R + a^-2 I)^-1`` (N, N) of states (..., T, N): what minimises ``E|x - C x|^2 + a^-2 |C|^2``.

    Refused: an aperture of 0 or less, NaN.
    """
    return of_correlation(correlation(states), aperture)


def of_correlation(matrix: Tensor, aperture: float) -> Tensor:
    """The conceptor of a correlation matrix R (N, N)."""
    a = number(aperture, "aperture", above=0)
    values, vectors = torch.linalg.eigh(_square(matrix, "a correlation"))
    if float(values[0]) < -1e-6 * max(float(values[-1]), 0.0):
        raise RefusedError(
            f"a correlation has no negative eigenvalue; got {float(values[0]):.3g}; make it by correlation(states)"
        )
    return _made((values.clamp_min(0) / (values.clamp_min(0) + _inverse_square(a))), vectors)


def diagonal(states: Tensor, aperture: float) -> Tensor:
    """``c_i = r_i / (r_i + a^-2)`` with ``r_i = E[x_i^2]`` (N,): a gain per unit (de Jong 2021), for `Affine` or a gate."""
    a = number(aperture, "aperture", above=0)
    x = finite(_states(states), "states")
    power = x.reshape(-1, x.shape[-1]).square().mean(0)
    return power / (power + _inverse_square(a))


def negation(a: Tensor) -> Tensor:
    """``NOT A = I - A``: what A leaves free."""
    a = _conceptor(a)
    return torch.eye(len(a), dtype=a.dtype, device=a.device) - a


def conjunction(a: Tensor, b: Tensor) -> Tensor:
    """``A AND B``: ``(A^-1 + B^-1 - I)^-1`` where both have an inverse, and its limit where they do not.

    Definition 4 of the report: ``B (B^T (A^+ + B^+ - I) B)^-1 B^T``, with an orthonormal basis B of what the ranges of A and B share.
    """
    a, b = _pair(a, b)
    free = [vectors[:, values < 1e-12] for values, vectors in (torch.linalg.eigh(a), torch.linalg.eigh(b))]
    outside = torch.cat(free, 1)
    shared = torch.linalg.eigh(outside @ outside.T)
    basis = shared.eigenvectors[:, shared.eigenvalues < 1e-9]
    inverses = torch.linalg.pinv(a, hermitian=True, rtol=1e-12) + torch.linalg.pinv(b, hermitian=True, rtol=1e-12)
    inner = basis.T @ inverses @ basis - torch.eye(basis.shape[1], dtype=a.dtype, device=a.device)
    return _rounded(_symmetric(basis @ torch.linalg.solve(inner, basis.T)))


def disjunction(a: Tensor, b: Tensor) -> Tensor:
    """``A OR B = NOT (NOT A AND NOT B)``: of one aperture, the conceptor of both sets of states together (their R summed)."""
    return negation(conjunction(negation(a), negation(b)))


def with_aperture(a: Tensor, factor: float) -> Tensor:
    """``C (C + g^-2 (I - C))^-1``: the conceptor of the same states whose aperture is ``factor`` times as large."""
    g = number(factor, "factor of an aperture", above=0)
    values, vectors = torch.linalg.eigh(_conceptor(a))
    values = values.clamp(0, 1)
    return _made(values / (values + _inverse_square(g) * (1 - values)), vectors)


def quota(a: Tensor) -> float:
    """``trace(A) / N``: the share of the reservoir's memory that a pattern takes."""
    return float(_conceptor(a).trace()) / len(a)


def morph(a: Tensor, b: Tensor, share: float) -> Tensor:
    """``(1 - m) A + m B``; between two conceptors for m in [0, 1], beyond them outside."""
    m = number(share, "share of a morph")
    a, b = _pair(a, b)
    return (1 - m) * a + m * b


def _rounded(matrix: Tensor) -> Tensor:
    """The matrix, with eigenvalues that rounding put outside [0, 1] at its ends."""
    values, vectors = torch.linalg.eigh(matrix)
    inside = bool(((values >= -SLACK) & (values <= 1 + SLACK)).all())
    return matrix if inside else _made(values.clamp(0, 1), vectors)


def _inverse_square(a: float) -> float:
    """``a^-2``, the largest float where it has none so large."""
    return min(1 / a / a, sys.float_info.max)


def _made(values: Tensor, vectors: Tensor) -> Tensor:
    return _symmetric((vectors * values) @ vectors.T)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _square(matrix: Any, what: str) -> Tensor:
    square = isinstance(matrix, Tensor) and matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and len(matrix) > 0
    if not square or not matrix.is_floating_point():
        raise RefusedError(f"{what} is a square matrix of real floats; got {shown(matrix)}; correct it")
    own = finite(matrix.detach().double(), what)
    if not torch.allclose(own, own.T, rtol=1e-6, atol=1e-9):
        raise RefusedError(f"{what} is symmetric; got a {tuple(own.shape)} matrix that is not; pass (M + M.T) / 2")
    return _symmetric(own)


def _conceptor(matrix: Any) -> Tensor:
    own = _square(matrix, "a conceptor")
    values = torch.linalg.eigvalsh(own)
    slack = SLACK if matrix.dtype == torch.float64 else ROUNDINGS * torch.finfo(matrix.dtype).eps
    if float(values[0]) < -slack or float(values[-1]) > 1 + slack:
        raise RefusedError(
            f"a conceptor has singular values from 0 to 1; got {float(values[0]):.3g} to {float(values[-1]):.3g}; make it by "
            "conceptor(states, aperture)"
        )
    # What a lesser dtype rounded is put right once, for what is computed from it is judged in float64.
    return own if matrix.dtype == torch.float64 else _rounded(own)


def _pair(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    a, b = _conceptor(a), _conceptor(b)
    if a.shape != b.shape:
        raise RefusedError(
            f"two conceptors are of one reservoir; got {tuple(a.shape)} and {tuple(b.shape)}; match their units"
        )
    return a, b


def _states(states: Any) -> Tensor:
    if not isinstance(states, Tensor) or not states.is_floating_point() or states.ndim < 2 or not states.numel():
        raise RefusedError(f"a conceptor is made of states (..., steps, units); got {shown(states)}; pass some")
    return states.detach().double()
