"""Instruments: what masks, signs and gains a network ends with, and what is left when it is reduced to them."""

from neuromod.analysis.criteria import CRITERIA, criterion, density_mask, masks
from neuromod.analysis.weights import (
    chance_overlap,
    density,
    distance,
    masked_weights,
    near_zero,
    overlap,
    pruned_gammas,
    random_gammas,
    sign_agreement,
    signed_constant,
)

__all__ = [
    "CRITERIA",
    "chance_overlap",
    "criterion",
    "density",
    "density_mask",
    "distance",
    "masked_weights",
    "masks",
    "near_zero",
    "overlap",
    "pruned_gammas",
    "random_gammas",
    "sign_agreement",
    "signed_constant",
]

# Former names, for code that imports them.
kept = density_mask
masked = masked_weights
