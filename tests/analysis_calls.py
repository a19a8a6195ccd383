"""Right calls of instruments on weights, masks and gains, for the draws of wrong arguments."""

import torch
from torch import Tensor

from neuromod import analysis
from tests.right_calls import Call


def analyses() -> dict[str, Call]:
    """A right call of everything in `neuromod.analysis`, and of one with a wrong tensor among right ones."""
    first, last = torch.randn(2, 6, 12).unbind()
    both = {"initial": {"a": first, "b": first}, "final": {"a": last, "b": last}}
    kept = {"one": {"a": first > 0}, "other": {"a": last > 0}}
    gains = {"gammas": {"a": torch.ones(3), "b": torch.zeros(2)}}

    def moved(initial: Tensor, final: Tensor) -> dict[str, float]:
        return analysis.distance({"a": initial}, {"a": final})

    return {
        "criterion": Call(analysis.criterion, {"name": "large_final_same_sign"}),
        **{f"criterion, {name}": Call(f, {"initial": first, "final": last}) for name, f in analysis.CRITERIA.items()},
        "criterion, same sign": Call(analysis.criterion("movement_same_sign"), {"initial": first, "final": last}),
        "density_mask": Call(analysis.density_mask, {"scores": first, "density": 0.5}),
        "masks": Call(analysis.masks, both | {"name": "movement", "density": 0.5}),
        "masks, one density": Call(
            lambda share: analysis.masks(**both, name="movement", density=share), {"share": {"a": 0.5, "b": 1}}
        ),
        "distance": Call(analysis.distance, both),
        "distance, tensor": Call(moved, {"initial": first, "final": last}),
        "sign_agreement": Call(analysis.sign_agreement, both),
        "density": Call(analysis.density, {"masks": kept["one"]}),
        "overlap": Call(analysis.overlap, kept),
        "chance_overlap": Call(analysis.chance_overlap, kept),
        "masked_weights": Call(analysis.masked_weights, {"initial": {"a": first}, "masks": kept["one"]}),
        "signed_constant": Call(analysis.signed_constant, {"weights": {"a": first}}),
        "pruned_gammas": Call(analysis.pruned_gammas, gains | {"below": 0.01}),
        "near_zero": Call(analysis.near_zero, gains | {"below": 0.01}),
        "random_gammas": Call(analysis.random_gammas, gains | {"count": 2, "rng": torch.Generator()}),
    }
