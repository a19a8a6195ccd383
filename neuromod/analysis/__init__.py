"""Instruments: what masks, signs and gains a network ends with, and what is left when it is reduced to them."""

from neuromod.analysis.criteria import CRITERIA, criterion, kept, masks
from neuromod.analysis.weights import (
    chance_overlap,
    density,
    distance,
    masked,
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
    "distance",
    "kept",
    "masked",
    "masks",
    "near_zero",
    "overlap",
    "pruned_gammas",
    "random_gammas",
    "sign_agreement",
    "signed_constant",
]
