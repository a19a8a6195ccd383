"""What training left in the network: how far weights moved, which signs they kept, what masks keep, which gains are off."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import neuromod
from neuromod import Modulator, Table
from neuromod.analysis import density, distance, near_zero, pruned_gammas, random_gammas, sign_agreement
from tasks.continual import learners
from tasks.continual.learners.modulated import call_kwargs
from tasks.continual.measures.masks import masks_of
from tasks.continual.measures.reduced import mean_accuracy, trained_weights
from tasks.continual.streams import Stream
from tasks.experiment import Bench
from tasks.report import layers
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.table import percent
from tasks.runs.seeds import generator

BELOW = 0.01  # gains of norms below it count as switched off (Frankle et al. 2021, section 5)
DRAWS = 5  # random choices of as many gains, the control
MEASURES = {
    "density": "share of weights kept",
    "sign_agreement": "share of signs as at the start",
    "distance": "distance moved, lengths of the start",
    "near_zero": "share of gains below .01",
}


def measure(learner: Any, stream: Stream, bench: Bench) -> dict[str, Any] | None:
    """What training left in each layer, as far as it makes sense for what was trained; None where it makes none.

    Of a dense network ``distance`` moved and ``sign_agreement`` with its start; of masks their ``density``; of gains of
    norms per task how many are ``near_zero`` and what it costs to set them to zero, or as many others (Frankle et al.
    2021, section 5).
    """
    if isinstance(learner, learners.Dense):
        initial, final = trained_weights(learner)
        return {
            "distance": _rounded(distance(initial, final)),
            "sign_agreement": _rounded(sign_agreement(initial, final)),
        }
    if not isinstance(learner, learners.Modulated):
        return None
    found: dict[str, Any] = {}
    for modulator in learner.model.readers("task").values():
        if modulator.kind.is_mask:
            found["density"] = _rounded(density(masks_of(modulator, modulator.tasks()[0])))
        if isinstance(modulator.source, Table):
            found |= _gammas(learner.model, modulator, stream, bench.seeds["sampling"])
    return found or None


@torch.no_grad()
def _gammas(model: neuromod.Modulated, modulator: Modulator, stream: Stream, seed: int) -> dict[str, Any]:
    """How many gains are near zero, and what it costs to set them to zero, or as many others."""
    own = {task: modulator.source.own(task) for task in modulator.source.tasks()}
    live = {f"{task}:{key}": value for task, row in own.items() for key, value in row.items() if key.endswith("/gain")}
    if not live:
        return {}
    kept = {key: value.clone() for key, value in live.items()}

    def after(gains: Mapping[str, Tensor]) -> float:
        for key, value in gains.items():
            live[key].copy_(value)
        found = mean_accuracy(lambda x, task: model(x, **call_kwargs(model, task)), stream)
        for key, value in kept.items():
            live[key].copy_(value)
        return found

    shares = near_zero(kept, BELOW)
    count = sum(int((gains.abs() < BELOW).sum()) for gains in kept.values())
    whole = after(kept)
    drawn = [after(random_gammas(kept, count, generator("gammas", seed, i))) for i in range(DRAWS if count else 0)]
    cost, others = whole - after(pruned_gammas(kept, BELOW)), whole - sum(drawn) / len(drawn) if drawn else 0.0
    # What costs less than one test image can't be told from nothing.
    image = 1 / sum(len(task.test) for task in stream)
    return {
        "near_zero": _rounded(shares),
        "near_zero_share": count / sum(gains.numel() for gains in kept.values()),
        "zeroed_cost": cost,
        "random_zeroed_cost": others,
        "random_over_zeroed": others / max(cost, image),
        "gammas": {
            key.partition(":")[2]: [round(g, 4) for g in value.flatten().tolist()] for key, value in kept.items()
        },
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """What training did layer by layer, and the gains of norms."""
    return [section for section in (_layers(runs, names), _gains(runs, names)) if section is not None]


def _layers(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """What training did to each layer."""
    panels = []
    for key, measure in MEASURES.items():
        shown = [i for i, run in enumerate(runs) if run.measure("weights").get(key)]
        if not shown:
            continue
        lines, looks = [], []
        for i in shown:
            values = list(runs[i].measure("weights")[key].values())
            lines.append((names[i], list(range(1, len(values) + 1)), values))
            looks.append(looks_of(runs)[i])
        label = f"{measure[0].upper()}{measure[1:]}, layer by layer: " + ", ".join(names[i] for i in shown)
        panels.append(Panel(measure, "", layers.by_layer(f"layers-{key}", label, lines, looks, measure)))
    caption = (
        "Layer by layer, from the input to the output: what masks keep, how many weights have the sign that they started "
        "with, how far each layer moved, how many gains of norms are switched off."
    )
    return Section("layers", "What training did, layer by layer", caption, tuple(panels)) if panels else None


def _gains(runs: Sequence[Run], names: Sequence[str]) -> Section | None:
    """Histograms of the gains of norms."""
    panels = []
    for i, run in enumerate(runs):
        found = run.measure("weights")
        if not found.get("gammas"):
            continue
        gains, colour = list(found["gammas"].values()), looks_of(runs)[i][0]
        svg = layers.histogram(f"gammas-{i}", f"Gains of norms of {names[i]}, layer by layer", gains, colour, "gain")
        note = (
            f"{percent(found['near_zero_share'])} % below .01; setting them to zero costs {100 * found['zeroed_cost']:.2f} "
            f"points, as many others {100 * found['random_zeroed_cost']:.2f}."
        )
        panels.append(Panel(names[i], colour, svg, note))
    caption = (
        "The gains of all norms after training, and below them layer by layer from the input to the output: a peak at zero is "
        "units that were switched off."
    )
    return Section("gammas", "Gains of the norms", caption, tuple(panels)) if panels else None
