"""Rows side by side: what they do at each site, in numbers that may be subtracted."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import shown, task_ids, tensor
from neuromod.errors import RefusedError
from neuromod.modulator import Modulator
from neuromod.sources.base import Row, by_site
from neuromod.sources.context import Context

Modulations = dict[str, Tensor]
"""Of each site by its name, (rows, numbers)."""


def context_of(modulator: Modulator, conditions: Any) -> Context:
    """A call of nothing but conditions, one sample each, for a modulator whose rows hang on them alone.

    Refused: a modulator that reads anything else or is in no model, ids that are no ids, and conditions without a leading axis.

    Args:
        modulator: reads the task or the condition.
        conditions: ids of tasks; or vectors (n, ...), support sets (n, items, ...) or labels (n,).

    """
    if modulator.target is None:
        raise RefusedError(f"{modulator.name} has rows once it is on a target; pass it to Modulated(target, ...) first")
    if modulator.reads == "task":
        ids = task_ids(conditions)
        return Context((), len(ids), tasks=ids, index=torch.arange(len(ids)))
    if modulator.reads != "condition":
        raise RefusedError(
            f"rows are asked for by task or by condition; {modulator.name} reads {modulator.reads!r}; ask one that reads either"
        )
    if not isinstance(conditions, Tensor) or conditions.ndim == 0:
        raise RefusedError(
            f"conditions come in a tensor, one along its first axis for each row; got {shown(conditions)}; stack them"
        )
    return Context(
        (), len(conditions), condition=tensor(conditions, "conditions", integers=not conditions.is_floating_point())
    )


def rows_of(modulator: Modulator, context: Context) -> list[Row]:
    """A row for each sample of `context_of`; one row where all samples share it."""
    rows = modulator(context)
    if rows.index is None:
        return [rows.one()]
    return [rows.row(int(position)) for position in rows.index]


def modulations(modulator: Modulator, rows: Sequence[Row]) -> Modulations:
    """What rows do, live or at rest, as `Kind.blend` has it: gains, the mask itself, the product of low-rank factors.

    Their differences are differences of the network: two rows of scores with one mask are one, and so are factors of one product.
    """
    assert modulator.target is not None
    now, found = modulator.target.tensors(), {}
    raws = [by_site(row) for row in rows]
    for site in modulator.sites:
        # Of experts that are mixed the numbers are those of blend already.
        each = [
            raw[site.label] if modulator.source.blends else modulator.kind.blend(site, raw[site.label], now)
            for raw in raws
        ]
        found[site.name] = torch.stack([torch.cat([value.flatten() for value in one.values()]) for one in each])
    return found
