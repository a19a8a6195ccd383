"""What training did: how far it moved, and what of it is left when the network is reduced to a mask or to its signs."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Table
from neuromod.analysis import (
    density,
    distance,
    masked,
    masks,
    near_zero,
    pruned_gammas,
    random_gammas,
    sign_agreement,
    signed_constant,
)
from neuromod.kinds.masks import Mask
from tasks.continual.learners.dense import Dense
from tasks.continual.learners.modulated import told
from tasks.continual.measures.masks import masks_of
from tasks.continual.sequence import accuracy
from tasks.continual.streams import Split, Stream
from tasks.runs.seeds import generator

CHOSEN_ON = 5000  # training images that the density of a criterion is chosen on
BELOW = 0.01  # gains of norms below it count as switched off (Frankle et al. 2021, section 5)
SAMPLES = 10  # masks that Zhou et al. 2019 draw at test time
DRAWS = 5  # random choices of as many gains, the control


def analysed(
    learner: Any, start: Mapping[str, Tensor], stream: Stream, config: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """``analysis`` and ``criteria`` as the report reads them, as far as they make sense for what was trained.

    ``start`` holds the target's weights, with which a dense network started.
    """
    if isinstance(learner, Dense):
        return _dense(learner.net, start, stream, config)
    model = getattr(learner, "model", None)
    return _modulated(model, stream, seed) | _sampled(model, stream) if isinstance(model, Modulated) else {}


def _dense(net: nn.Module, start: Mapping[str, Tensor], stream: Stream, config: Mapping[str, Any]) -> dict[str, Any]:
    final = {name: p.detach() for name, p in net.named_parameters() if p.ndim > 1}
    initial = {name: start[name].to(value) for name, value in final.items()}
    found: dict[str, Any] = {
        "distance": _rounded(distance(initial, final)),
        "sign_agreement": _rounded(sign_agreement(initial, final)),
    }
    result: dict[str, Any] = {"analysis": found}
    if config["criteria"]:
        constant = signed_constant(initial)
        starts = {"init": initial, "constant": constant}
        pairs = {name: {} for name in config["criteria"]}
        for name in pairs:
            made = {share: masks(initial, final, name, share) for share in config["densities"]}
            for label, weights in starts.items():
                pairs[name][label] = _best(net, {share: masked(weights, m) for share, m in made.items()}, stream)
        result["criteria"] = pairs
        # The signs alone: trained signs, and the start's, on weights of one size a layer.
        signs = {"final_signs": signed_constant(final), "initial_signs": constant}
        result["reduced"] = {label: accuracy_with(net, weights, stream) for label, weights in signs.items()}
    return result


def _best(net: nn.Module, candidates: Mapping[float, Mapping[str, Tensor]], stream: Stream) -> dict[str, Any]:
    """The density that is best on training images, and the accuracy on test images at every density."""
    chosen_on = {share: accuracy_with(net, weights, stream, train=True) for share, weights in candidates.items()}
    tested = {share: accuracy_with(net, weights, stream) for share, weights in candidates.items()}
    best = max(chosen_on, key=lambda share: chosen_on[share])
    return {"density": best, "accuracy": tested[best], "curve": [[share, value] for share, value in tested.items()]}


@torch.no_grad()
def accuracy_with(net: nn.Module, weights: Mapping[str, Tensor], stream: Stream, *, train: bool = False) -> float:
    """Accuracy of a copy of a network with other weights, the mean over tasks; on training images if asked."""
    copy = deepcopy(net).eval()
    own = dict(copy.named_parameters())
    for name, value in weights.items():
        own[name].copy_(value)
    return _accuracy(lambda x, task: copy(x), stream, train=train)


def _accuracy(call: Callable[[Tensor, int], Tensor], stream: Stream, *, train: bool = False) -> float:
    values = []
    for number, task in enumerate(stream):
        seen = Split(task.train.images[:CHOSEN_ON], task.train.labels[:CHOSEN_ON]) if train else task.test
        values.append(accuracy(call, replace(task, test=seen), number, 1000))
    return sum(values) / len(values)


def _modulated(model: Modulated, stream: Stream, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for modulator in model.named_modulators().values():
        if modulator.reads != "task":
            continue
        if isinstance(modulator.kind, Mask):
            found["density"] = _rounded(density(masks_of(modulator, modulator.tasks()[0])))
        if isinstance(modulator.kind, Affine) and isinstance(modulator.source, Table):
            found |= _gammas(model, modulator, stream, seed)
    return {"analysis": found} if found else {}


@torch.no_grad()
def _sampled(model: Modulated, stream: Stream) -> dict[str, Any]:
    """``sampled``: the mean accuracy of drawn masks, where a kind draws them; Zhou et al. 2019 report this and not the rounded."""
    if not any(
        modulator.kind.noise(site) for modulator in model.named_modulators().values() for site in modulator.sites
    ):
        return {}
    draws = [_accuracy(lambda x, task, i=i: model(x, draw=i, **told(model, task)), stream) for i in range(SAMPLES)]
    return {"sampled": sum(draws) / len(draws)}


@torch.no_grad()
def _gammas(model: Modulated, modulator: Modulator, stream: Stream, seed: int) -> dict[str, Any]:
    """How many gains are near zero, and what it costs to set them to zero, or as many others."""
    own = {task: modulator.source.own(task) for task in modulator.source.tasks()}
    live = {f"{task}:{key}": value for task, row in own.items() for key, value in row.items() if key.endswith("/gain")}
    if not live:
        return {}
    kept = {key: value.clone() for key, value in live.items()}

    def after(gains: Mapping[str, Tensor]) -> float:
        for key, value in gains.items():
            live[key].copy_(value)
        found = _accuracy(lambda x, task: model(x, **told(model, task)), stream)
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
