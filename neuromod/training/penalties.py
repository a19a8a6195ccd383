"""Penalties on gates and routing weights: functions of the rows of a call, to be added to its loss.

``rows = model.rows(x)``, ``loss = loss_of(model(x, rows=rows)) + 0.1 * sparsity(gates(model, rows), 0.5)``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from neuromod.arguments import instance, number, shown, tensor, tensors
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.sources import Rows
from neuromod.sources.base import by_site


def gates(model: Modulated, rows: Mapping[str, Rows]) -> dict[str, Tensor]:
    """The factors of every gate of a call, by site: (samples, channels), or (1, channels) where one row serves all."""
    instance(model, Modulated, "the model whose gates are penalised")
    gating = {name: m for name, m in model.named_modulators().items() if m.kind.is_gate}
    if not gating:
        raise RefusedError("penalties of gates need a modulator of the kind Gate; got none; add one")
    found: dict[str, Tensor] = {}
    for name, modulator in gating.items():
        used = rows.get(name) if isinstance(rows, Mapping) else None
        if not isinstance(used, Rows):
            raise RefusedError(f"rows are those of a call, by modulator; got {shown(rows)}; pass model.rows(...)")
        row = used.stacked() if used.index is None else used.gathered(used.index.reshape(-1))
        raws = by_site(row)
        factors = {f"{name}/{s.label}": modulator.kind.factor(raws[s.label]) for s in modulator.sites}
        found |= {site: factor for site, factor in factors.items() if factor is not None}
    return found


def sparsity(factors: Mapping[str, Tensor], density: float) -> Tensor:
    """``mean over sites of (mean activity - density)^2``: pulls the share of open gates to ``density`` in [0, 1].

    The target-rate loss of conditional networks (Veit & Belongie 2018, eq. 3), one rate per site.
    """
    try:
        density = number(density, "density", least=0, most=1)
    except RefusedError:
        raise RefusedError(
            f"density is the share of gates to keep open, in [0, 1]; got {shown(density)}; correct it"
        ) from None
    if not tensors(factors, "factors of gates"):
        raise RefusedError("factors of gates are one site's at least; got none; pass gates(model, rows)")
    return torch.stack([(values.mean() - density).square() for values in factors.values()]).mean()


def load_balance(weights: Tensor) -> Tensor:
    """``CV(importance)^2`` of weights (samples, experts), ``importance_e = sum_b g_be``: 0 where all are used alike.

    The squared coefficient of variation over experts, or over the channels of a gate (Shazeer et al. 2017, eqs. 6-7).
    """
    if tensor(weights, "weights of experts", 2).shape[1] < 2:
        raise RefusedError(
            f"load is balanced between two experts or more, weights (samples, experts); got {tuple(weights.shape)}"
        )
    importance = weights.sum(0)
    return importance.var(correction=0) / importance.mean().square().clamp(min=1e-12)
