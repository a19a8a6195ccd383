"""Switches read off tuned networks, without training: TALL, EMR and BitDelta as rows of a `Switch`, or as its starts."""

import math
from typing import Literal

import torch
from torch import Tensor

from neuromod.arguments import instance, number, one_of
from neuromod.errors import RefusedError
from neuromod.kinds.switch import least_score
from neuromod.modulator import Modulator
from neuromod.target.delta import DELTA, Weights, task_vector
from neuromod.training.give import give

RULES = {"tall": "mask", "agree": "mask", "sign": "sign", "ternary": "ternary"}


@torch.no_grad()
def read_switch(
    modulator: Modulator,
    task: int,
    tuned: Weights,
    *,
    rule: Literal["tall", "agree", "sign", "ternary"],
    strength: float = 0.4,
) -> None:
    """Write what a tuned network takes of the shared difference D into the row of a live task; train it on from there, or not.

    With the task vector ``t = tuned - W``: ``"tall"`` keeps where ``|t| >= strength |D - t|``, scale 1 (Wang et al. 2024, eq. 5);
    ``"agree"`` keeps where t has the sign of D, scale ``sum |t| / sum |M D|`` (EMR, Huang et al. 2024, section 3.2); ``"sign"`` takes
    the signs that turn D to t, scale ``sum |t D| / sum D^2``, which is the mean of ``|t|`` where D is 1 (BitDelta, Liu et al. 2024, eq. 2);
    ``"ternary"`` takes those signs where ``|t|`` is ``strength`` times its root mean square or more, scale ``sum |t M D| / sum M D^2``
    (T-Switch, Qi et al. 2025: what is small is dropped, signs and one scale stay).
    Scores are the margins by which it was decided, of the size of a drawn start, so that training turns the closest first.

    Args:
        modulator: of a `Switch`, with a `Table`, on a network of `shared_delta` or `random_delta`.
        task: a live one.
        tuned: the network of this task, its state dict, or a safetensors file.
        rule: one of a mask ("tall", "agree") for switches of masks, "sign" for those of signs, "ternary" for ternary ones.
        strength: of "tall" and "ternary", above 0: the smaller, the more is kept.

    """
    kind = instance(modulator, Modulator, "what is read into").kind
    one_of(rule, "the rule of a switch", RULES)
    number(strength, "strength, how large the rest must be to close a switch,", above=0)
    if kind.switched != RULES[rule] or modulator.target is None:
        got = f"form {kind.switched!r}" if kind.switched else modulator.name
        raise RefusedError(
            f"the rule {rule!r} is of a Switch of form {RULES[rule]!r} in a model; got {got}; take another rule, or make the "
            "modulator of that form and pass it to Modulated first"
        )
    now, vector = modulator.target.tensors(), task_vector(modulator.target.pristine, tuned)
    for site in modulator.sites:
        delta, moved = now[site.name + DELTA], vector[site.name]
        if rule == "tall":
            values = _tall(moved, delta, strength, site.fan_in)
        elif rule == "ternary":
            values = _ternary(moved, delta, strength, least_score(site))
        else:
            values = _signs(moved, delta, site.fan_in, of_mask=rule == "agree")
        give(modulator, task, values, site)


def _tall(moved: Tensor, delta: Tensor, strength: float, fan_in: int) -> dict[str, Tensor]:
    margin = moved.abs() - strength * (delta - moved).abs()
    return {"score": _drawn_size(margin, fan_in), "scale": moved.new_ones(1)}


def _signs(moved: Tensor, delta: Tensor, fan_in: int, *, of_mask: bool) -> dict[str, Tensor]:
    """Where t has the sign of D: what a mask of agreement keeps, and a switch of signs leaves as it is."""
    margin = moved * delta
    scores = _drawn_size(margin, fan_in)
    scores = torch.where(margin > 0, scores, scores.clamp(max=-_tiny(scores)))
    kept = delta * (margin > 0) if of_mask else delta
    # EMR compares sizes, BitDelta takes the least squares; of a D that is 1 both are the mean of |t|.
    scale = moved.abs().sum() / kept.abs().sum() if of_mask and bool(kept.any()) else _fit(moved, kept)
    return {"score": scores, "scale": scale.reshape(1)}


def _ternary(moved: Tensor, delta: Tensor, strength: float, least: float) -> dict[str, Tensor]:
    level = strength * moved.square().mean().sqrt()
    scores = moved * delta.sign() / level.clamp(min=_tiny(level)) * least
    return {"score": scores, "scale": _fit(moved, delta * (scores.abs() >= least)).reshape(1)}


def _fit(moved: Tensor, kept: Tensor) -> Tensor:
    """The factor on ``kept``, with the signs of ``moved``, that comes nearest to it; 0 of nothing."""
    return (moved * kept).abs().sum() / kept.square().sum().clamp(min=_tiny(kept))


def _drawn_size(margin: Tensor, fan_in: int) -> Tensor:
    """Margins at the root mean square of scores that are drawn."""
    return margin / margin.square().mean().sqrt().clamp(min=_tiny(margin)) / math.sqrt(3 * fan_in)


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
