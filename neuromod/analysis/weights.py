"""How far training moved the weights, and what is left of a network that is reduced to a mask or to its signs."""

from collections.abc import Mapping

import torch
from torch import Tensor

from neuromod.arguments import count as whole
from neuromod.arguments import number, shown, tensors
from neuromod.errors import RefusedError

Weights = Mapping[str, Tensor]
"""Tensors by name."""


def distance(initial: Weights, final: Weights) -> dict[str, float]:
    """``|w_f - w_i| / |w_i|`` of each tensor: 0 where nothing moved, 1 where it moved as far as it was long."""
    return {k: float((v - w).norm() / w.norm()) for k, w, v in pairs(initial, final)}


def sign_agreement(initial: Weights, final: Weights) -> dict[str, float]:
    """The share of the weights of each tensor whose sign is the one they started with."""
    return {k: float((w.sign() == v.sign()).double().mean()) for k, w, v in pairs(initial, final)}


def density(masks: Weights) -> dict[str, float]:
    """The share that each mask keeps."""
    return {name: _share(mask) for name, mask in tensors(masks, "masks", masks=True).items()}


def overlap(one: Weights, other: Weights) -> float:
    """Intersection over union of two sets of masks, over all tensors; 1 where both keep nothing."""
    found = pairs(one, other, masks=True)
    both = sum(int(((a != 0) & (b != 0)).sum()) for _, a, b in found)
    either = sum(int(((a != 0) | (b != 0)).sum()) for _, a, b in found)
    return both / either if either else 1.0


def chance_overlap(one: Weights, other: Weights) -> float:
    """The overlap to expect of independent masks as dense as these, tensor by tensor.

    ``sum n d e / sum n (d + e - d e)``, the expected intersection over the expected union, for densities ``d`` and ``e``
    of tensors of ``n`` weights.
    """
    shares = [(a.numel(), _share(a), _share(b)) for _, a, b in pairs(one, other, masks=True)]
    either = sum(n * (d + e - d * e) for n, d, e in shares)
    return sum(n * d * e for n, d, e in shares) / either if either else 1.0


def masked_weights(initial: Weights, masks: Weights) -> dict[str, Tensor]:
    """``w_i * M``: the initial weights that a mask keeps."""
    found = pairs(tensors(initial, "initial weights"), masks, masks=True)
    return {k: w * m.to(w.dtype) for k, w, m in found}


def signed_constant(weights: Weights) -> dict[str, Tensor]:
    """``sign(w) std(w)``, the standard deviation of each tensor's own weights (Zhou et al. 2019, section 4.1)."""
    return {k: w.sign() * w.std(correction=0) for k, w in tensors(weights, "weights").items()}


def pairs(one: Weights, other: Weights, *, masks: bool = False) -> list[tuple[str, Tensor, Tensor]]:
    """Tensors of the same names and shapes side by side, in the order of the first, without their gradients.

    Args:
        one: tensors by name.
        other: tensors by name, these and maybe more.
        masks: whether they may be bools or integers as well.

    """
    for side in (one, other):
        tensors(side, "each side", masks=masks)
    missing = [name for name in one if name not in other or other[name].shape != one[name].shape]
    if missing:
        raise RefusedError(
            f"both sides need the same tensors; {missing[0]!r} is missing or of another shape; correct it"
        )
    return [(name, tensor.detach(), other[name].detach()) for name, tensor in one.items()]


def pruned_gammas(gammas: Weights, below: float = 0.01) -> dict[str, Tensor]:
    """The gains of norms with those of ``|gamma| < below`` set to 0 (Frankle et al. 2021, section 5)."""
    below = number(below, "below", least=0)
    return {name: torch.where(g.abs() < below, 0.0, g.detach()).to(g) for name, g in tensors(gammas, "gains").items()}


def random_gammas(gammas: Weights, count: int, rng: torch.Generator) -> dict[str, Tensor]:
    """The gains with ``count`` of them, drawn at random over all norms, set to 0: the control of `pruned_gammas`.

    Args:
        gammas: gains by name of their norm.
        count: how many to set to 0; refused outside 0..all.
        rng: a CPU generator.

    """
    total = sum(g.numel() for g in tensors(gammas, "gains").values())
    if not isinstance(rng, torch.Generator) or rng.device.type != "cpu":
        raise RefusedError(f"rng must be a generator on the CPU; got {shown(rng)}; pass torch.Generator()")
    drawn = whole(count, f"count, in 0..{total}, the number of gains,", most=total)
    drop = torch.zeros(total, dtype=torch.bool)
    drop[torch.randperm(total, generator=rng)[:drawn]] = True
    parts = drop.split([g.numel() for g in gammas.values()])
    return {
        name: torch.where(part.view(g.shape).to(g.device), 0.0, g.detach()).to(g)
        for (name, g), part in zip(gammas.items(), parts, strict=True)
    }


def near_zero(gammas: Weights, below: float = 0.01) -> dict[str, float]:
    """The share of each norm's gains with ``|gamma| < below``."""
    below = number(below, "below", least=0)
    return {name: float((g.abs() < below).double().mean()) for name, g in tensors(gammas, "gains").items()}


def _share(mask: Tensor) -> float:
    return float((mask != 0).double().mean())
