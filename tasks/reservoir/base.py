"""What experiments on reservoirs have in common: the reservoir that is drawn, and what a report keeps of a series."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuromod.reservoirs import Reservoir
from tasks.config.fields import Count, Rate, Share, Weight
from tasks.experiment import Bench

SHOWN, UNITS = 200, 8
"""Steps and units of a series that a report draws."""


@dataclass(frozen=True)
class Net:
    """The reservoir of a run; the options are those of `neuromod.reservoirs.Reservoir`.

    Args:
        units: N.
        form: "uniform", "sparse" or "ring".
        radius: spectral radius; of a ring its one weight.
        density: the share of weights that a sparse one keeps.
        input_scale: largest magnitude of an input weight.
        bias_scale: largest magnitude of a bias.
        leak: in (0, 1].

    """

    units: Count = 200
    form: str = "uniform"
    radius: Weight = 0.9
    density: Share = 0.1
    input_scale: Weight = 1.0
    bias_scale: Weight = 0.0
    leak: Rate = 1.0

    def draw(self, bench: Bench, inputs: int = 1) -> Reservoir:
        """The reservoir of this run, from its own seed."""
        options = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "units"}
        return Reservoir(self.units, inputs, seed=bench.seeds["target"], **options)


def shown(values: Tensor, digits: int = 4) -> Any:
    """Numbers for a report, rounded, in nested lists."""
    return torch.round(values.detach().double(), decimals=digits).tolist()


def some_states(states: Tensor) -> Any:
    """The first units over the first steps, (UNITS, SHOWN) at most, of states (T, N)."""
    return shown(states[:SHOWN, :UNITS].T)
