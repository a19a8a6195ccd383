"""How many inputs back a reservoir holds what it was given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from neuromod.reservoirs import memory_curve, states
from tasks.config.fields import Count, Weight, fit_fields
from tasks.errors import UserError
from tasks.experiment import Bench, Result
from tasks.report.panels import Section
from tasks.reservoir import drawing
from tasks.reservoir.base import Net, shown
from tasks.runs.seeds import generator


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory capacity (Jaeger 2001): ``sum_k corr^2(u[t - k], readout_k)`` for independent inputs, at most N.

    Readouts are fitted on one half of the steps and judged on the other, so that nothing counts which is not held.

    Args:
        net: the reservoir.
        delays: the longest.
        steps: of the input, U[-.5, .5].
        washout: steps left out in front.
        ridge: of the readouts.

    """

    net: Net = field(default_factory=Net)
    delays: Count = 400
    steps: Count = 8000
    washout: Count = 500
    ridge: Weight = 1e-9

    def __post_init__(self) -> None:
        fit_fields(self, "run")

    def fingerprint(self, bench: Bench) -> str:
        """A constant: all is drawn from the run's seeds."""
        return "reservoir"

    def execute(self, bench: Bench) -> Result:
        """Run the reservoir once, fit all readouts at once."""
        if bench.held_out is not None:
            raise UserError("memory is judged on steps that no readout is fitted on; select has none to choose")
        u = torch.rand(self.steps, generator=generator("memory", bench.seeds["data"]), dtype=torch.float64) - 0.5
        (x,) = states(self.net.draw(bench), u[None, :, None])[0]
        curve = memory_curve(x, u, self.delays, washout=self.washout, ridge=self.ridge)
        found = float(curve.sum())
        bench.run.log(step=1, phase="fit", loss=self.net.units - found)
        measure = {"curve": shown(curve), "share": found / self.net.units}
        source = {"name": None, "sha256": None, "substitute": None, "stream": "independent inputs"}
        return Result(
            "capacity", found, "higher", None, {"memory": measure}, trained="readouts, in closed form", data=source
        )

    @staticmethod
    def draw(runs: Sequence[Any], names: Sequence[str]) -> list[Section]:
        """The memory curve."""
        return drawing.memories(runs, names)
