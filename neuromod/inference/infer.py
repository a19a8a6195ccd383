"""`infer`: which task is this input from, or is it from none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, instance, number, one_of, shown
from neuromod.bank import Bank
from neuromod.bank.packed import check_planes
from neuromod.errors import RefusedError
from neuromod.inference.brute_force import brute_force, verify
from neuromod.inference.calibration import Calibration
from neuromod.inference.checks import check_apart, check_bank, check_group, check_inputs, check_tasks
from neuromod.inference.halving import halving
from neuromod.inference.objectives import OBJECTIVES, objective
from neuromod.inference.one_shot import bank_of, one_shot
from neuromod.modulated import Modulated

METHODS = ("one_shot", "halving", "brute_force", "verified")


def check_best(best: Any) -> int:
    """How many tasks are tried, one at least."""
    try:
        return count(best, "best", least=1)
    except RefusedError:
        raise RefusedError(f"verified tries one task at least; got best={shown(best)}; correct it") from None


@dataclass(frozen=True)
class InferenceRule:
    """How a task is inferred: a method, an objective, and the tensors whose gradients count.

    Args:
        method: "one_shot" (one gradient), "halving" (log2 k of them), "brute_force" (k forwards), or "verified" (the ``best``
            tasks by one shot of the entropy, each then tried with the objective).
        objective: a name of `objectives`.
        sites: names of the tensors whose gradient counts; None: all that the tasks edit.
        real: outputs that stand for classes; None: all.
        best: how many tasks "verified" tries.
        planes: rounds the gradient of a packed bank to so many bits, 2 to 16; None: exact.

    """

    method: str = "one_shot"
    objective: str = "entropy"
    sites: tuple[str, ...] | None = None
    real: int | None = None
    best: int = 8
    planes: int | None = None

    def __post_init__(self) -> None:
        one_of(self.method, "a method", METHODS)
        object.__setattr__(self, "best", check_best(self.best))
        one_of(self.objective, "an objective", OBJECTIVES)
        if self.real is not None:
            object.__setattr__(self, "real", count(self.real, "real, the outputs that stand for classes,", least=1))
        if self.planes is not None:
            object.__setattr__(self, "planes", check_planes(self.planes))
        if self.sites is not None and (
            not isinstance(self.sites, tuple | list) or not all(isinstance(site, str) for site in self.sites)
        ):
            raise RefusedError(f"sites are names of tensors in a tuple; got {shown(self.sites)}; None takes all")


@dataclass(frozen=True, eq=False)
class Inference:
    """What `infer` found for G groups of inputs.

    Args:
        tasks: ids of the k tasks that were compared.
        scores: (G, k), larger where a task fits better.
        task: int64 (G,), the id of the best one.
        confidence: (G,) in [1 / k, 1], the largest of the scores' softmax.
        known: bool (G,), False where no task stands out.

    """

    tasks: tuple[int, ...]
    scores: Tensor
    task: Tensor
    confidence: Tensor
    known: Tensor


# reason: keywords alone behind the rule, each a choice that a caller makes
def infer(
    model: Modulated,
    x: Tensor,
    rule: InferenceRule = InferenceRule(),
    *,
    tasks: Sequence[int] | None = None,
    group: int = 1,
    bank: Bank | None = None,
    calibration: Calibration | None = None,
    eps: float = 0.125,
) -> Inference:
    """Infer the task of every group of ``group`` inputs in a row, among the learned tasks only.

    A group is *known* where ``k max_i softmax(scores)_i >= 1 + eps``: the rule by which Wortsman et al. 2020 (section 3.4,
    eps = 2^-3) allocate a new mask where it does not hold.

    Args:
        model: with the learned tasks.
        x: inputs (B, ...).
        rule: how.
        tasks: ids to choose among; None: all learned ones.
        group: inputs in a row that share a task; a rest that fills no group is left out.
        bank: of these tasks, kept from an earlier call.
        calibration: brings scores of single inputs to one scale before a group sums them; that of the same rule
            (`fit_calibration`).
        eps: how far a known task stands out.

    """
    chosen = check_tasks(model, tasks)
    x, rule = check_inputs(model, x), instance(rule, InferenceRule, "rule")
    group = check_group(group, x.shape[model.target.batch_axis])
    number(eps, "eps")
    check_bank(bank)
    if calibration is not None:
        instance(calibration, Calibration, "calibration")
    scores = _scores(model, x, rule, chosen, group, bank, calibration)
    confidence, place = torch.softmax(scores, 1).max(1)
    known = confidence * len(chosen) >= 1 + eps if len(chosen) > 1 else torch.ones_like(place, dtype=torch.bool)
    ids = torch.tensor(chosen, device=scores.device)
    return Inference(chosen, scores, ids[place], confidence, known)


def fit_calibration(model: Modulated, data: Mapping[int, Tensor], rule: InferenceRule) -> Calibration:
    """The calibration of a rule, for the tasks in the order of ``data``.

    Args:
        model: with the learned tasks.
        data: of each task, held-out inputs (N, ...) with N of 2 at least.
        rule: whose scores are brought to one scale.

    """
    tasks, own = check_tasks(model, list(instance(data, dict, "data, inputs by task,"))), {}
    instance(rule, InferenceRule, "rule")
    for place, (task, x) in enumerate((task, check_inputs(model, x)) for task, x in data.items()):
        # Another task's forward can't change what brute force says of this one.
        alone = rule.method in ("brute_force", "verified")
        asked = replace(rule, method="brute_force") if alone else rule
        scores = _scores(model, x, asked, (task,) if alone else tasks, 1, None, None)
        own[task] = scores[:, 0 if alone else place]
    return Calibration.fit(own)


# reason: what infer and fit_calibration ask alike, no one of it part of the rule
def _scores(
    model: Modulated,
    x: Tensor,
    rule: InferenceRule,
    tasks: tuple[int, ...],
    group: int,
    bank: Bank | None,
    calibration: Calibration | None,
) -> Tensor:
    check_apart(model, group, x)
    wanted = objective(rule.objective, rule.real)
    shared: dict[str, Any] = {"tasks": tasks, "objective": wanted}
    if rule.method == "halving":
        if calibration is not None:
            raise RefusedError("halving counts rounds, which have no scale; got a calibration; drop it")
        return halving(model, x, group=group, bank=bank, **shared)
    if rule.method == "one_shot" and calibration is None:
        return one_shot(model, x, sites=rule.sites, planes=rule.planes, group=group, bank=bank, **shared)
    if rule.method == "verified":
        held = bank_of(bank, tasks) if bank is not None else Bank(model, tasks)
        coarse = one_shot(model, x, tasks=tasks, sites=rule.sites, planes=rule.planes, group=group, bank=held)
        likely = coarse.topk(min(rule.best, len(tasks)), 1).indices.repeat_interleave(group, 0)
        parts = _batches(model, x.narrow(model.target.batch_axis, 0, len(likely)), group)
        sizes = [part.shape[model.target.batch_axis] for part in parts]
        asked = zip(parts, likely.split(sizes), strict=True)
        single = torch.cat([verify(model, part, places, **shared) for part, places in asked])
    elif rule.method == "one_shot":
        single = one_shot(model, x, sites=rule.sites, planes=rule.planes, bank=bank, **shared)
    else:
        single = torch.cat([brute_force(model, part, **shared) for part in _batches(model, x, group)])
    if calibration is not None:
        single = calibration(single)
    group = check_group(group, len(single))
    return single[: len(single) // group * group].reshape(-1, group, len(tasks)).sum(1)


def _batches(model: Modulated, x: Tensor, group: int) -> Sequence[Tensor]:
    """What runs in one batch: all inputs, or where samples meet inside the network each group by itself."""
    parts: Sequence[Tensor] = (x,) if model.target.probe.meets is None else x.split(group, model.target.batch_axis)
    return parts
