"""Mask criteria: which weights of an untrained network would training have kept (Zhou et al. 2019, section 3).

A criterion takes the initial and the final weights of a tensor, both of one shape, to a score per weight; a mask keeps the
largest (`density_mask`). Masks of a good criterion over *initial* weights are far above chance without any training of them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from neuromod.errors import RefusedError, nearest

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Initial and final weights, of one shape, to scores of that shape; the largest are kept."""


def large_final(initial: Tensor, final: Tensor) -> Tensor:
    """``|w_f|``: the lottery-ticket criterion (Frankle & Carbin 2019)."""
    return final.abs()


def small_final(initial: Tensor, final: Tensor) -> Tensor:
    """``-|w_f|``."""
    return -final.abs()


def large_init(initial: Tensor, final: Tensor) -> Tensor:
    """``|w_i|``."""
    return initial.abs()


def small_init(initial: Tensor, final: Tensor) -> Tensor:
    """``-|w_i|``."""
    return -initial.abs()


def large_init_large_final(initial: Tensor, final: Tensor) -> Tensor:
    """``min(a |w_f|, |w_i|)``, with ``a = mean |w_i| / mean |w_f|``, so that both count alike."""
    return torch.minimum(_balance(initial, final) * final.abs(), initial.abs())


def small_init_small_final(initial: Tensor, final: Tensor) -> Tensor:
    """``-max(a |w_f|, |w_i|)``, with the same ``a``."""
    return -torch.maximum(_balance(initial, final) * final.abs(), initial.abs())


def magnitude_increase(initial: Tensor, final: Tensor) -> Tensor:
    """``|w_f| - |w_i|``."""
    return final.abs() - initial.abs()


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
    plain = name.removesuffix(SAME_SIGN)
    if plain not in CRITERIA:
        known = [*CRITERIA, *(f"{known}{SAME_SIGN}" for known in CRITERIA)]
        raise RefusedError(f"a criterion must be known; got {name!r}; try {nearest(name, known)}")
    scores = CRITERIA[plain]
    if plain == name:
        return scores
    return lambda initial, final: scores(initial, final) * (initial.sign() == final.sign())


def density_mask(scores: Tensor, density: float) -> Tensor:
    """The mask, bool, of the ``round(density * n)`` largest scores of a tensor; of equals the first are kept."""
    if not 0 <= density <= 1:
        raise RefusedError(f"density is the share kept, in [0, 1]; got {density}; correct it")
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
    score = criterion(name)
    share = density if isinstance(density, Mapping) else dict.fromkeys(initial, density)
    return {key: density_mask(score(w, final[key]), share[key]) for key, w in initial.items()}


def _balance(initial: Tensor, final: Tensor) -> Tensor:
    return initial.abs().mean() / final.abs().mean().clamp(min=torch.finfo(final.dtype).tiny)
