"""Methods of task inference by the names that a config gives them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from neuromod import Modulated
from neuromod.bank import Bank
from neuromod.inference import OBJECTIVES, Calibration, InferenceRule, fit_calibration
from neuromod.inference.infer import METHODS
from neuromod.inference.predictors import Linear, Predictor, RandomFeatures, Signature, Subspaces
from tasks.config.build import resolve
from tasks.continual.measures.recall import SETTINGS
from tasks.continual.streams import Stream
from tasks.errors import UserError, nearest
from tasks.runs.seeds import generator

PREDICTORS: Mapping[str, Callable[..., Predictor]] = MappingProxyType(
    {
        "predictor_signature": lambda **_: Signature(),
        "predictor_subspaces": lambda rank=20, **_: Subspaces(rank),
        "predictor_lda": lambda units=1000, **_: Linear("lda", RandomFeatures(units)),
        "predictor_ridge": lambda units=1000, **_: Linear("ridge", RandomFeatures(units)),
    }
)
CALIBRATED, FIRST = "calibrated_", "_first"
HELD = 256  # training images of each task that a calibration is fitted on


@dataclass(frozen=True)
class Named:
    """A rule by the name that a config gives it: ``[calibrated_]METHOD[_OBJECTIVE][_first]``.

    Args:
        method: one of `neuromod.inference.infer.METHODS`.
        objective: one of `neuromod.inference.OBJECTIVES`; ``entropy`` where the name has none.
        calibrated: whether scores are calibrated on training images first.
        first: whether the gradient is taken at the first masked tensor alone.

    """

    method: str
    objective: str
    calibrated: bool
    first: bool


def is_predictor(name: str) -> bool:
    """Whether a method asks statistics of the images and no mask: one of `PREDICTORS`, or the dotted path of a user's own."""
    return name in PREDICTORS or "." in name


def check_method(name: str) -> None:
    """Refuse an unknown method: before the training whose end would use it."""
    if "." in name:
        resolve(name, "inference.methods")
    elif name not in PREDICTORS and name not in SETTINGS:
        named(name)


def named(name: str) -> Named:
    """The rule of a name; without an objective it is entropy. ``_first`` takes the gradient at the first masked tensor."""
    rest = name.removeprefix(CALIBRATED)
    short = rest.removesuffix(FIRST)
    for method in METHODS:
        objective = short.removeprefix(method).removeprefix("_") or "entropy"
        if short.startswith(method) and objective in OBJECTIVES:
            return Named(method, objective, rest != name, short != rest)
    known = [*METHODS, *PREDICTORS, *SETTINGS, *(f"{m}_{o}" for m in METHODS for o in OBJECTIVES)]
    raise UserError(f"a method of task inference must be known; got {name!r}; nearest: {nearest(name, known)}")


def predictor(name: str, stream: Stream, options: Mapping[str, int]) -> Predictor:
    """A predictor that has learned every task of a stream, from statistics of its training images.

    Args:
        name: its name in `PREDICTORS`, or a dotted path, called without options.
        options: ``rank`` of subspaces, ``units`` of random features; a predictor of `PREDICTORS` takes those that it has.

    """
    statistics = PREDICTORS[name](**options) if name in PREDICTORS else resolve(name, "inference.methods")()
    for number, task in enumerate(stream):
        statistics.learn(number, task.view(task.train.images), task.train.labels)
    return statistics


def rule_of(model: Modulated, stream: Stream, name: str, count: int, seed: int) -> tuple[InferenceRule, dict[str, Any]]:
    """The rule of a name over the first tasks, and the options of `neuromod.inference.infer` that belong to it.

    Args:
        name: as `named` reads it.
        count: how many of the first tasks there are to choose from.

    """
    tasks, spec = list(range(count)), named(name)
    with torch.no_grad():
        bank = None if spec.method == "brute_force" else Bank(model, tasks)
    sites = (next(iter(bank.mean())),) if spec.first and bank is not None else None
    rule = InferenceRule(spec.method, spec.objective, sites, max(task.classes for task in stream))
    calibration = _calibration(model, stream, rule, tasks, seed) if spec.calibrated else None
    return rule, {"tasks": tasks, "bank": bank, "calibration": calibration}


def _calibration(model: Modulated, stream: Stream, rule: InferenceRule, tasks: Sequence[int], seed: int) -> Calibration:
    """Fitted on training images; masks have seen some of them, at most two or three times."""
    data = {}
    for number in tasks:
        task = stream[number]
        order = torch.randperm(len(task.train), generator=generator("calibration", seed, number))[:HELD]
        data[number] = task.view(task.train.images[order.to(task.train.images.device)])
    return fit_calibration(model, data, rule)
