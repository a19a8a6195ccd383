"""Switches read off tuned networks, without training: TALL, EMR and BitDelta as rows of a `Switch`, or as its starts."""

import math
from typing import Literal

import torch
from torch import Tensor

from neuromod.arguments import instance, number, one_of
from neuromod.errors import RefusedError
from neuromod.modulator import Modulator
from neuromod.target.delta import DELTA, Weights, task_vector
from neuromod.training.give import give

RULES = {"tall": "mask", "agree": "mask", "sign": "sign"}


@torch.no_grad()
def read_switch(
    modulator: Modulator, task: int, tuned: Weights, *, rule: Literal["tall", "agree", "sign"], strength: float = 0.4
) -> None:
    """Write what a tuned network takes of the shared difference D into the row of a live task; train it on from there, or not.

    With the task vector ``t = tuned - W``: ``"tall"`` keeps where ``|t| >= strength |D - t|``, scale 1 (Wang et al. 2024, eq. 5);
    ``"agree"`` keeps where t has the sign of D, scale ``sum |t| / sum |M D|`` (EMR, Huang et al. 2024, section 3.2); ``"sign"`` takes
    the signs that turn D to t, scale ``sum |t D| / sum D^2``, which is the mean of ``|t|`` where D is 1 (BitDelta, Liu et al. 2024, eq. 2).
    Scores are the margins by which it was decided, of the size of a drawn start, so that training turns the closest first.

    Args:
        modulator: of a `Switch`, with a `Table`, on a network of `shared_delta` or `random_delta`.
        task: a live one.
        tuned: the network of this task, its state dict, or a safetensors file.
        rule: one of a mask ("tall", "agree") for switches of masks, "sign" for those of signs.
        strength: of "tall", above 0: the smaller, the more is kept.

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
        # A switch of signs and one of agreement both ask whether t and D have one sign.
        margin = moved.abs() - strength * (delta - moved).abs() if rule == "tall" else moved * delta
        values = {"score": _scores(margin, site.fan_in, rule), "scale": _scale(rule, moved, delta, margin)}
        give(modulator, task, values, site)


def _scores(margin: Tensor, fan_in: int, rule: str) -> Tensor:
    """Margins of the root mean square of scores that are drawn; those of 0 are above it for "tall" alone, which keeps equals."""
    scores = margin / margin.square().mean().sqrt().clamp(min=torch.finfo(margin.dtype).tiny) / math.sqrt(3 * fan_in)
    return (
        scores if rule == "tall" else torch.where(margin > 0, scores, scores.clamp(max=-torch.finfo(scores.dtype).tiny))
    )


def _scale(rule: str, moved: Tensor, delta: Tensor, margin: Tensor) -> Tensor:
    one = moved.new_ones(1)
    if rule == "tall":
        return one
    if rule == "agree":
        kept = (delta.abs() * (margin > 0)).sum()
        return one * (moved.abs().sum() / kept if kept > 0 else 0.0)
    return one * (moved * delta).abs().sum() / delta.square().sum()
