"""The library's rows through the slow reference: equations for known kinds, plain hooks, one sample at a time."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neuromod import Modulated, Modulator
from neuromod.kinds import (
    AdaFM,
    Affine,
    Bernoulli,
    Coats,
    Conceptor,
    Gate,
    Generated,
    Head,
    LowRankDelta,
    Rank1,
    Signed,
    Statistics,
    Subset,
    Switch,
    Threshold,
    TopK,
    Wires,
)
from neuromod.sources.base import by_site
from neuromod.target.taps import BIAS, GAIN
from tests import reference


def weight(kind: Any, site: Any, base: dict[str, Tensor], w: Tensor, raw: dict[str, Tensor]) -> Tensor | None:
    """The effective weight by the equation of the kind; None for a kind that the reference does not know."""
    if getattr(kind, "searched", 1) < 1:
        return _searched_in_part(kind, site, w, raw)
    match kind:
        case Signed():
            return reference.signed(w, raw["score"], kind.at / site.fan_in**0.5)
        case Coats():
            return reference.coats(w, raw["score"], kind.densities)
        case TopK():
            return reference.topk(w, raw["score"], kind.density)
        case Threshold():
            return reference.threshold(w, raw["score"], kind.at, kind.strict)
        case Bernoulli():
            return reference.bernoulli(w, raw["score"], raw.get("noise"), kind.rescale)
        case Generated():
            return reference.generated(w, raw["weight"])
        case LowRankDelta():
            return reference.low_rank(w, raw["a"], raw["b"], (kind.alpha or kind.rank) / kind.rank)
        case Wires():
            return reference.wires(w, raw["delta"], kind.density)
        case Switch():
            return reference.switch(w, base[f"{site.name}_delta"], raw["score"], raw["scale"], kind.form)
        case AdaFM():
            return reference.adafm(w, raw["gamma"], raw["beta"])
        case Subset():
            # Its places are a hash of site and seed; which they are is checked in tests/analysis/test_weights.py.
            return reference.subset(w, raw["values"], kind.places(site))
        case Rank1():
            return reference.rank1(
                w, *(reference.gate_value(raw[p], "hard") if kind.form == "hard" else raw[p] for p in "rs")
            )
    return None


def _searched_in_part(kind: Any, site: Any, w: Tensor, raw: dict[str, Tensor]) -> Tensor:
    """The mask of a score where it is searched, else what is frozen; which they are, tests/kinds/test_masks.py checks."""
    constants, flat = kind.constants(site), w.flatten()
    plain = replace(kind, searched=1.0, seed=0, **({"rescale": False} if isinstance(kind, Bernoulli) else {}))
    found = weight(plain, site, {}, torch.ones_like(raw["score"]), raw)
    assert found is not None
    mask = constants["held"].to(w)
    mask[constants["places"]] = found
    if isinstance(kind, Bernoulli) and kind.rescale:
        mask = mask * (mask.numel() / mask.sum())
    return (flat * mask).reshape(w.shape)


def row_of(model: Modulated, context: Any, draw: int | None) -> reference.Row:
    """Weights, taps and buffers of the one sample that the context holds."""
    weights: dict[str, Tensor] = {}
    taps: dict[str, list[reference.Tap]] = {}
    buffers: dict[str, Tensor] = {}
    base = dict(model.target.pristine.named_parameters()) | dict(model.target.pristine.named_buffers())
    for modulator in model.modulators.values():
        rows = modulator(context)
        if draw is not None and modulator.noisy:
            rows = modulator.noise(rows, context, draw)
        _add(modulator, rows.row(0), base, weights, taps, buffers)
    return weights, taps, buffers


def _add(
    modulator: Modulator, row: dict[str, Tensor], base: dict[str, Tensor], weights: Any, taps: Any, buffers: Any
) -> None:
    raws = by_site(row)
    for site in modulator.sites:
        raw, kind = raws[site.label], modulator.kind
        taps_here = taps.setdefault(site.module, []) if site.role == "output" else []
        match kind:
            case Affine():
                taps_here.append((raw["gain"], raw["bias"], site.channel))
            case Gate():
                taps_here.append((reference.gate_value(raw["code"], kind.form), None, site.channel))
            case Conceptor():
                taps_here.append((reference.conceptor(raw["half"], site.shape[0]), None, site.channel))
            case Statistics():
                buffers[site.name] = raw["value"]
            case Head():
                weights |= {f"{site.module}.{part}": value for part, value in raw.items()}
            case _:
                now = base | weights
                made = weight(kind, site, base, now[site.name], raw)
                edits = kind.edits(site, raw, now) if made is None else {site.name: made}
                for name, value in edits.items():
                    prefix, _, leaf = name.rpartition(".")
                    if leaf in (GAIN, BIAS):
                        pair = (value, None) if leaf == GAIN else (None, value)
                        taps.setdefault(prefix, []).append((*pair, site.channel))
                    else:
                        weights[name] = value


def outputs(model: Modulated, x: Tensor, ids: list[int], condition: Tensor, draw: int | None) -> Tensor:
    """The whole batch, sample by sample."""
    reads = model.reads
    rows = []
    for i, task in enumerate(ids):
        given = condition[i : i + 1] if "condition" in reads else None
        context = model.context((x[i : i + 1],), task if "task" in reads else None, given)
        rows.append(row_of(model, context, draw))
    return reference.run_slow(model.target.pristine, rows, x)
