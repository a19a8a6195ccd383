"""Fit a hypernetwork to rows that are there: many modulations in one small network."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, instance, shown, tensors
from neuromod.errors import RefusedError
from neuromod.modes import evaluating
from neuromod.modulator import Modulator
from neuromod.training.modulations import Modulations, context_of, modulations, rows_of


def fit_rows(
    modulator: Modulator,
    rows: Sequence[Mapping[str, Tensor]],
    conditions: Any,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
) -> float:
    """Train a hypernetwork until its rows do what given rows do; returns the error that is left.

    The loss of a step, and the error, is ``sum |r_i - g_i|^2 / sum |g_i - start|^2`` over conditions and sites: 1 at the kind's start,
    0 where every given row ``g`` is met. Rows are compared by what they do (`Kind.blend`): gains as they are; of scores the mask,
    with its straight-through gradient, for scores of one mask are one modulation; of low-rank factors the product, whatever the
    factors. So given rows may be at rest. Text-to-LoRA (Charakorn et al. 2025) is distilled from adapters in this way, by factors.

    One call takes all rows in each step; for more than memory holds, call it on a part at a time with the same optimiser.

    Refused: as many conditions as rows, rows of other sites, kinds or shapes, or that hold NaN, an optimiser of other parameters, and
    an error that does not stay finite.

    Args:
        modulator: one of a model's, of a source that is learned.
        rows: numbers by key, ``"site/part"``, as `Table.own` and `Modulator.stored` give them: one for each condition.
        conditions: as of `row_spread`.
        optimizer: of the modulator's parameters; one without a closure.
        steps: of training, 0 or more.

    """
    instance(modulator, Modulator, "what is fitted to rows")
    instance(optimizer, torch.optim.Optimizer, "optimizer")
    steps = count(steps, "steps")
    context = context_of(modulator, conditions)
    _refuse_optimizer(modulator, optimizer)
    with torch.no_grad():
        given = modulations(modulator, _checked(modulator, rows, context.size))
        begun = modulations(modulator, [modulator.start("offset")])
        # Rows that are the start itself leave nothing to divide by.
        whole = float(_distance(given, begun)) or 1.0
    for step in range(steps):
        optimizer.zero_grad()
        error = _distance(modulations(modulator, rows_of(modulator, context)), given) / whole
        if not math.isfinite(float(error.detach())):
            raise RefusedError(
                f"the error of rows must stay finite; got {float(error.detach())} at step {step}; lower the rate (lr)"
            )
        error.backward()
        optimizer.step()
    with torch.no_grad(), evaluating(modulator):
        return float(_distance(modulations(modulator, rows_of(modulator, context)), given)) / whole


def _distance(a: Modulations, b: Modulations) -> Tensor:
    return torch.stack([(a[name] - b[name]).square().sum() for name in a]).sum()


def _refuse_optimizer(modulator: Modulator, optimizer: torch.optim.Optimizer) -> None:
    own = {id(parameter) for parameter in modulator.parameters()}
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not own & moved or isinstance(optimizer, torch.optim.LBFGS):
        raise RefusedError(
            f"rows are fitted by an optimiser of the modulator's parameters that steps without a closure; got "
            f"{type(optimizer).__name__} of {len(moved)} tensors; pass torch.optim.Adam(modulator.parameters()), say"
        )


def _checked(modulator: Modulator, rows: Any, size: int) -> list[dict[str, Tensor]]:
    """Given rows where the modulator's lie. Refused: another number of them, other numbers, and NaN."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes) or len(rows) != size:
        raise RefusedError(
            f"a row is given for each of the {size} conditions, in a list; got {shown(rows)}; match them"
        )
    kind, sites = modulator.kind, modulator.sites
    live = {f"{s.label}/{part}": tuple(shape) for s in sites for part, shape in kind.shapes(s).items()}
    rest = {f"{s.label}/{part}": tuple(value.shape) for s in sites for part, value in kind.at_rest(s).items()}
    checked = []
    for number, row in enumerate(rows):
        form = {key: tuple(v.shape) for key, v in tensors(row, f"the numbers of row {number}", masks=True).items()}
        if form not in (live, rest):
            raise RefusedError(
                f"a row has the numbers of {modulator.name}, {shown(live)}; row {number} has {shown(form)}; give such"
            )
        if not all(bool(torch.isfinite(value).all()) for value in row.values()):
            raise RefusedError(f"given rows are finite; row {number} has NaN or infinity; compute it anew")
        like = modulator.like
        checked.append(
            {k: v.detach().to(like.device, like.dtype if v.is_floating_point() else v.dtype) for k, v in row.items()}
        )
    return checked
