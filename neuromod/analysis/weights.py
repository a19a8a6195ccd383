"""How far training moved the weights, and what is left of a network that is reduced to a mask or to its signs."""

from collections.abc import Mapping

import torch
from torch import Tensor

from neuromod.errors import RefusedError

Weights = Mapping[str, Tensor]
"""Tensors by name."""


def distance(initial: Weights, final: Weights) -> dict[str, float]:
    """``|w_f - w_i| / |w_i|`` of each tensor: 0 where nothing moved, 1 where it moved as far as it was long."""
    return {k: float((v - w).norm() / w.norm()) for k, w, v in _pairs(initial, final)}


def sign_agreement(initial: Weights, final: Weights) -> dict[str, float]:
    """The share of the weights of each tensor whose sign is the one they started with."""
    return {k: float((w.sign() == v.sign()).double().mean()) for k, w, v in _pairs(initial, final)}


def density(masks: Weights) -> dict[str, float]:
    """The share that each mask keeps."""
    return {name: _share(mask) for name, mask in masks.items()}


def overlap(one: Weights, other: Weights) -> float:
    """Intersection over union of two sets of masks, over all tensors; 1 where both keep nothing."""
    both = sum(int(((a != 0) & (b != 0)).sum()) for _, a, b in _pairs(one, other))
    either = sum(int(((a != 0) | (b != 0)).sum()) for _, a, b in _pairs(one, other))
    return both / either if either else 1.0


def chance_overlap(one: Weights, other: Weights) -> float:
    """The overlap to expect of independent masks as dense as these, tensor by tensor.

    ``sum n d e / sum n (d + e - d e)``, the expected intersection over the expected union, for densities ``d`` and ``e``
    of tensors of ``n`` weights.
    """
    shares = [(a.numel(), _share(a), _share(b)) for _, a, b in _pairs(one, other)]
    either = sum(n * (d + e - d * e) for n, d, e in shares)
    return sum(n * d * e for n, d, e in shares) / either if either else 1.0


def masked_weights(initial: Weights, masks: Weights) -> dict[str, Tensor]:
    """``w_i * M``: the initial weights that a mask keeps."""
    return {k: w * m.to(w.dtype) for k, w, m in _pairs(initial, masks)}


def signed_constant(weights: Weights) -> dict[str, Tensor]:
    """``sign(w) std(w)``, the standard deviation of each tensor's own weights (Zhou et al. 2019, section 4.1)."""
    return {k: w.sign() * w.std(correction=0) for k, w in weights.items()}


def _pairs(one: Weights, other: Weights) -> list[tuple[str, Tensor, Tensor]]:
    missing = [name for name in one if name not in other or other[name].shape != one[name].shape]
    if missing:
        raise RefusedError(
            f"both sides need the same tensors; {missing[0]!r} is missing or of another shape; correct it"
        )
    return [(name, tensor.detach(), other[name].detach()) for name, tensor in one.items()]


def pruned_gammas(gammas: Weights, below: float = 0.01) -> dict[str, Tensor]:
    """The gains of norms with those of ``|gamma| < below`` set to 0 (Frankle et al. 2021, section 5)."""
    return {name: torch.where(g.abs() < below, 0.0, g.detach()).to(g) for name, g in gammas.items()}


def random_gammas(gammas: Weights, count: int, rng: torch.Generator) -> dict[str, Tensor]:
    """The gains with ``count`` of them, drawn at random over all norms, set to 0: the control of `pruned_gammas`.

    Args:
        gammas: gains by name of their norm.
        count: how many to set to 0; refused outside 0..all.
        rng: a CPU generator.

    """
    total = sum(g.numel() for g in gammas.values())
    if not 0 <= count <= total:
        raise RefusedError(f"count must be in 0..{total}, the number of gains; got {count}; correct it")
    drop = torch.zeros(total, dtype=torch.bool)
    drop[torch.randperm(total, generator=rng)[:count]] = True
    parts = drop.split([g.numel() for g in gammas.values()])
    return {
        name: torch.where(part.view(g.shape).to(g.device), 0.0, g.detach()).to(g)
        for (name, g), part in zip(gammas.items(), parts, strict=True)
    }


def near_zero(gammas: Weights, below: float = 0.01) -> dict[str, float]:
    """The share of each norm's gains with ``|gamma| < below``."""
    return {name: float((g.abs() < below).double().mean()) for name, g in gammas.items()}


def _share(mask: Tensor) -> float:
    return float((mask != 0).double().mean())
