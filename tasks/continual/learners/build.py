"""A baseline by its name and options."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from neuromod import Target
from tasks.continual.learners.batch_ensemble import BatchEnsemble
from tasks.continual.learners.dense import Dense
from tasks.continual.learners.ewc import OnlineEwc
from tasks.continual.learners.nothing import Nothing
from tasks.continual.learners.psp import Psp
from tasks.continual.learners.ridge import Ridge
from tasks.continual.learners.separate import Separate
from tasks.errors import UserError

OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dense": (),
        "separate": (),
        "ewc": ("strength", "decay"),
        "psp": (),
        "batch_ensemble": ("weights_lr",),
        "ridge": (),
        "nothing": (),
    }
)
"""The baselines, and the options of each under ``baseline`` in a config."""


def baseline(
    name: str, target: Target, options: Mapping[str, Any], *, tasks: int, classes: int, seed: int
) -> nn.Module:
    """A baseline of `OPTIONS` for so many tasks of at most ``classes`` classes."""
    unknown = sorted(set(options) - set(OPTIONS[name]))
    if unknown:
        known = ", ".join(OPTIONS[name]) or "nothing"
        raise UserError(f"baseline holds options of method={name} ({known}); got {', '.join(unknown)}; drop them")
    match name:
        case "dense":
            return Dense(target)
        case "separate":
            return Separate(target, tasks=tasks)
        case "ewc":
            return OnlineEwc(target, seed=seed, **options)
        case "psp":
            return Psp(target, tasks=tasks, seed=seed)
        case "batch_ensemble":
            return BatchEnsemble(target, tasks=tasks, seed=seed, **options)
        case "ridge":
            return Ridge(target, classes)
        case _:
            return Nothing(target)
