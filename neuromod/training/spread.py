"""Whether the rows of a hypernetwork differ between conditions."""

import warnings
from typing import Any

import torch

from neuromod.arguments import instance, number
from neuromod.errors import RefusedError
from neuromod.modes import evaluating
from neuromod.modulator import Modulator
from neuromod.training.modulations import context_of, modulations, rows_of


@torch.no_grad()
def row_spread(modulator: Modulator, conditions: Any, *, least: float = 1e-3) -> dict[str, float]:
    """The share of what rows have learnt that differs between conditions, by site: ``sum |r_i - mean|^2 / sum |r_i - start|^2``.

    From 0, one row for all conditions, to 1: rows have nothing in common but their start. ``r`` is what a row does (`Kind.blend`:
    gains, the mask itself, the product of low-rank factors), the start that of the kind: the gain of 1 where all begin hides
    nothing. It is 0 where a hypernetwork has not left its start, whose head is zero, and where it collapsed: units of the body
    died, or a condition is not seen. A `RuntimeWarning` says so where no site has ``least``.

    Refused: fewer than two conditions, equal ones, and a modulator that reads neither task nor condition.

    Args:
        modulator: one of a model's.
        conditions: ids of tasks; or vectors (n, ...), support sets (n, items, ...) or labels (n,).
        least: below it, at every site, rows are said not to differ; 1e-3 is a thirtieth of their norm. In hypernetworks that serve
            their tasks (docs/descriptions.md) the site that differs most lies above .1; in collapsed ones there is only rounding.

    """
    instance(modulator, Modulator, "whose rows are compared")
    number(least, "least, the share below which rows do not differ,", least=0, most=1)
    context = context_of(modulator, conditions)
    with evaluating(modulator):
        rows = rows_of(modulator, context)
    if len(rows) < 2:
        raise RefusedError("rows differ between two conditions at least; got one; pass the conditions of several tasks")
    now, start = modulations(modulator, rows), modulations(modulator, [modulator.start("offset")])
    spread = {}
    for name, each in now.items():
        learnt = float((each - start[name]).double().square().sum())
        spread[name] = float((each - each.mean(0)).double().square().sum()) / learnt if learnt else 0.0
    if max(spread.values()) < least:
        warnings.warn(
            f"rows differ between conditions; those of {modulator.name} differ by a share of {max(spread.values()):.1e} of what they "
            f"have learnt, below {least:g}; train on, lower the rate, or look whether the body sees the condition",
            RuntimeWarning,
            stacklevel=3,  # one frame more is that of no_grad
        )
    return spread
