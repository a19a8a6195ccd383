"""Two tasks by one frozen reservoir and one readout, told apart by nothing but gains and biases of the neurons."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neuromod import Affine, Modulated, Modulator, Table, Target, give
from neuromod.reservoirs import echo_state, fit, nrmse, unroll
from tasks.config.fields import Count, Number, Weight, fit_fields
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report.panels import Section
from tasks.reservoir import drawing
from tasks.reservoir.base import Net, shown, some_states
from tasks.reservoir.series import contexts
from tasks.runs.seeds import generator

AROUND = 40
"""Steps before and behind a switch that a report draws."""


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """``x' = tanh(g_c (W x + W_in u + b) + b_c)`` with drawn gains and biases per context, and one readout for both contexts.

    Context 0 asks for ``u[t-1] u[t-2]``, context 1 for ``u[t-3]``. Nothing is learned but the readout. Before it is fitted, two
    starts say whether the modulated reservoir forgets where it began, in each context and while they switch.

    Args:
        net: the reservoir; its bias is the same in both contexts.
        gain: gains are drawn in ``1 +- gain``, per context; 0 for none.
        bias: biases beside the net's own are drawn in ``+- bias``, per context; 0 for none.
        told: whether the readout is given the context as an input.
        ridges: of the readout, chosen on held-out steps.
        washout: steps in front that nothing is fitted on.
        train: steps to fit on, the held-out ones among them.
        held_out: of these, the last that choose the ridge.
        test: steps behind them.
        dwell: steps of a context before the other.
        otherwise: what happens where starts do not merge: "refuse", "warn" or "report".

    """

    net: Net = field(default_factory=Net)
    gain: Weight = 0.0
    bias: Weight = 0.0
    told: bool = False
    ridges: Sequence[Weight] = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
    washout: Count = 200
    train: Count = 4000
    held_out: Number = 800
    test: Count = 3800
    dwell: Count = 200
    otherwise: str = "refuse"

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        if not 0 < self.held_out < self.train:
            raise UserError(
                f"held-out steps are some of those to fit on; got held_out={self.held_out} of train={self.train}; correct it"
            )

    def fingerprint(self, bench: Bench) -> str:
        """A constant: all is drawn from the run's seeds."""
        return "reservoir"

    def execute(self, bench: Bench) -> Result:
        """Check, run, fit and judge; under `select` the last training steps stand in for the test."""
        test = self.test if bench.held_out is None else bench.held_out
        train = self.train if bench.held_out is None else self.train - test
        if train <= self.held_out:
            raise UserError(f"select leaves training steps to fit on; {test} of {self.train} are held out; lower it")
        cut = self.washout + train
        u, y, context = contexts(cut + test, self.dwell, bench.seeds["data"])
        model = self._modulated(bench)
        echo = echo_state(model, u[:3000], dwell=self.dwell, otherwise=self.otherwise, seed=bench.seeds["sampling"])
        with torch.no_grad():
            (x,) = unroll(model, u[None], task=context)
        beside = torch.cat([u, context[:, None].double()], 1) if self.told else u
        options: dict[str, Any] = {"ridge": list(self.ridges), "washout": self.washout, "held_out": self.held_out}
        readout = fit(x[:cut], y[:cut], inputs=beside[:cut], **options)
        said, wanted, of = readout(x[cut:], beside[cut:]), y[cut:], context[cut:]
        error = nrmse(said, wanted)
        bench.run.log(step=1, phase="fit", loss=error**2)
        switch = int((of[1:] != of[:-1]).nonzero()[0]) + 1 if len(set(of.tolist())) > 1 else 0
        here = slice(max(switch - AROUND, 0), switch + AROUND)
        measure = {
            "by_context": [nrmse(said[of == c], wanted[of == c]) for c in range(2)],
            "ridge": readout.ridge,
            "echo": {"distances": dict(echo.distances), "factors": dict(echo.factors), "bounds": dict(echo.bounds)},
            "target": shown(wanted[here, 0]),
            "output": shown(said[here, 0]),
            "states": some_states(x[cut:][here]),
        }
        numbers = self.net.units * ((self.gain > 0) + (self.bias > 0))
        learned = readout.head.weight.numel() + 1
        return Result(
            "nrmse",
            error,
            "lower",
            Costs(numbers, 8 * numbers, learned),
            {"contexts": measure},
            role="modulator" if numbers else "bracket",
            trained="one readout, in closed form",
            data={"name": None, "sha256": None, "substitute": None, "stream": "two contexts"},
        )

    def _modulated(self, bench: Bench) -> Modulated:
        net = self.net.draw(bench)
        target = Target(net, net.example())
        modulator = Modulator(Affine(), Table(2), target.outputs("drive"), seed=bench.seeds["source"])
        model = Modulated(target, modulator)
        for context in range(2):
            gain, bias = (_drawn(name, context, bench, self.net.units) for name in ("gain", "bias"))
            give(modulator, context, {"gain": 1 + self.gain * gain, "bias": self.bias * bias})
        return model

    @staticmethod
    def draw(runs: Sequence[Any], names: Sequence[str]) -> list[Section]:
        """Target against output, and states."""
        return drawing.switching(runs, names)


def _drawn(name: str, context: int, bench: Bench, units: int) -> Tensor:
    rng = generator("contexts", name, context, bench.seeds["source"])
    return 2 * torch.rand(units, generator=rng, dtype=torch.float64) - 1
