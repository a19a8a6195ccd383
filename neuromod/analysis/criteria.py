"""Mask criteria: which weights of an untrained network would training have kept (Zhou et al. 2019, section 3).

A criterion takes the initial and the final weights of a tensor, both of one shape, to a score per weight; a mask keeps the
largest (`density_mask`). Masks of a good criterion over *initial* weights are far above chance without any training of them.
"""

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from neuromod.analysis.weights import pairs
from neuromod.arguments import number, one_of, shown, tensor
from neuromod.errors import RefusedError

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Initial and final weights, of one shape, to scores of that shape; the largest are kept."""


def _of_one_shape(scores: Criterion) -> Criterion:
    """The criterion, which refuses what is no pair of float tensors of one shape."""

    @functools.wraps(scores)
    def checked(initial: Tensor, final: Tensor) -> Tensor:
        ours, theirs = tensor(initial, "initial weights").shape, tensor(final, "final weights").shape
        if ours != theirs:
            raise RefusedError(
                f"initial and final weights have one shape; got {tuple(ours)} and {tuple(theirs)}; pass those of one layer"
            )
        return scores(initial, final)

    return checked


@_of_one_shape
def large_final(initial: Tensor, final: Tensor) -> Tensor:
    """``|w_f|``: the lottery-ticket criterion (Frankle & Carbin 2019)."""
    return final.abs()


@_of_one_shape
def small_final(initial: Tensor, final: Tensor) -> Tensor:
    """``-|w_f|``."""
    return -final.abs()


@_of_one_shape
def large_init(initial: Tensor, final: Tensor) -> Tensor:
    """``|w_i|``."""
    return initial.abs()


@_of_one_shape
def small_init(initial: Tensor, final: Tensor) -> Tensor:
    """``-|w_i|``."""
    return -initial.abs()


@_of_one_shape
def large_init_large_final(initial: Tensor, final: Tensor) -> Tensor:
    """``min(a |w_f|, |w_i|)``, with ``a = mean |w_i| / mean |w_f|``, so that both count alike."""
    return torch.minimum(_balance(initial, final) * final.abs(), initial.abs())


@_of_one_shape
def small_init_small_final(initial: Tensor, final: Tensor) -> Tensor:
    """``-max(a |w_f|, |w_i|)``, with the same ``a``."""
    return -torch.maximum(_balance(initial, final) * final.abs(), initial.abs())


@_of_one_shape
def magnitude_increase(initial: Tensor, final: Tensor) -> Tensor:
    """``|w_f| - |w_i|``."""
    return final.abs() - initial.abs()


@_of_one_shape
def movement(initial: Tensor, final: Tensor) -> Tensor:
    """``|w_f - w_i|``."""
    return (final - initial).abs()


CRITERIA: Mapping[str, Criterion] = {
    f.__name__: f
    for f in (
        *(large_final, small_final, large_init, small_init),
        *(large_init_large_final, small_init_small_final, magnitude_increase, movement),
    )
}
SAME_SIGN = "_same_sign"


def criterion(name: str) -> Criterion:
    """A criterion by its name; with ``_same_sign`` behind it weights whose sign training changed score 0."""
    one_of(name, "a criterion", [*CRITERIA, *(f"{known}{SAME_SIGN}" for known in CRITERIA)])
    plain = name.removesuffix(SAME_SIGN)
    scores = CRITERIA[plain]
    if plain == name:
        return scores
    return lambda initial, final: scores(initial, final) * (initial.sign() == final.sign())


def density_mask(scores: Tensor, density: float) -> Tensor:
    """The mask, bool, of the ``round(density * n)`` largest scores of a tensor; of equals the first are kept."""
    density = number(density, "density, the share kept,", least=0, most=1)
    if not isinstance(scores, Tensor) or scores.is_complex():
        raise RefusedError(f"scores must be a tensor of real numbers; got {shown(scores)}; pass one")
    order = scores.flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[: round(density * scores.numel())]] = True
    return mask.view(scores.shape)


def masks(
    initial: Mapping[str, Tensor], final: Mapping[str, Tensor], name: str, density: float | Mapping[str, float]
) -> dict[str, Tensor]:
    """The mask (bool) of every tensor of ``initial`` by a criterion.

    Args:
        initial: weights before training, by name.
        final: weights after it, of the same names and shapes.
        name: of the criterion, as in `criterion`.
        density: the share to keep, in [0, 1]: one number, or one for each tensor by name.

    """
    score, found = criterion(name), pairs(initial, final)
    share = density if isinstance(density, Mapping) else dict.fromkeys(initial, density)
    if missing := [key for key in initial if key not in share]:
        raise RefusedError(
            f"density is one number, or one for each tensor by name; got none for {missing[0]!r}; add it"
        )
    return {key: density_mask(score(w, v), share[key]) for key, w, v in found}


def _balance(initial: Tensor, final: Tensor) -> Tensor:
    return initial.abs().mean() / final.abs().mean().clamp(min=torch.finfo(final.dtype).tiny)
