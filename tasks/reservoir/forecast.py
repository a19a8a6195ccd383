"""Forecasts by a linear readout of a reservoir that is drawn and never trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from neuromod.reservoirs import fit, nmse, nrmse, states
from tasks.config.build import call, having, target_of
from tasks.config.fields import Count, Number, Weight, fit_fields
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report.panels import Section
from tasks.reservoir import drawing
from tasks.reservoir.base import SHOWN, Net, shown, some_states
from tasks.reservoir.series import Laser, Series, laser_file
from tasks.runs.files import file_digest


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Fit a readout on the first steps of a series and judge it on the next.

    The headline is NRMSE or NMSE, which is its square, on the test steps; ``forecast`` has both, the ridge, the error on the
    held-out steps by ridge, and how often the series was drawn again.

    Args:
        series: what is forecast (`tasks.reservoir.series`).
        net: the reservoir.
        ridges: of the readout; that of the smallest error on held-out steps is taken.
        washout: steps in front that nothing is fitted on.
        train: steps to fit on, the held-out ones among them.
        held_out: of these, the last that choose the ridge.
        test: steps behind them.
        score: the headline.

    """

    series: Mapping[str, Any]
    net: Net = field(default_factory=Net)
    ridges: Sequence[Weight] = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
    washout: Count = 200
    train: Count = 2000
    held_out: Number = 500
    test: Count = 2000
    score: Literal["nrmse", "nmse"] = "nrmse"

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        target_of(self.series, "series")
        if self.held_out >= self.train:
            raise UserError(
                f"held-out steps are some of those to fit on; got held_out={self.held_out} of train={self.train}; lower it"
            )

    def fingerprint(self, bench: Bench) -> str:
        """The SHA-256 of the file of a series that is read; others are drawn from the run's seeds."""
        return file_digest(laser_file(bench)) if isinstance(self._series(), Laser) else "reservoir"

    def execute(self, bench: Bench) -> Result:
        """Fit and judge; under `select` the last training steps stand in for the test."""
        test = self.test if bench.held_out is None else bench.held_out
        train = self.train if bench.held_out is None else self.train - test
        if train <= self.held_out:
            raise UserError(
                f"select leaves training steps to fit on; {test} of {self.train} are held out; lower select.held_out"
            )
        series = self._drawn(bench, self.washout + train + test)
        net = self.net.draw(bench, series.inputs.shape[1])
        (x,) = states(net, series.inputs[None])[0]
        cut, u, y = self.washout + train, series.inputs, series.targets
        held = self.held_out if len(self.ridges) > 1 else 0
        options: dict[str, Any] = {"ridge": list(self.ridges), "washout": self.washout, "held_out": held}
        readout = fit(x[:cut], y[:cut], inputs=u[:cut], **options)
        said = readout(x[cut:], u[cut:])
        errors = {"nrmse": nrmse(said, y[cut:]), "nmse": nmse(said, y[cut:])}
        bench.run.log(step=1, phase="fit", loss=errors["nmse"])
        learned = readout.head.weight.numel() + readout.head.bias.numel()
        measure = {
            **errors,
            "ridge": readout.ridge,
            "held_out": {f"{ridge:g}": error for ridge, error in readout.held_out.items()},
            "redrawn": series.redrawn,
            "target": shown(y[cut : cut + SHOWN, 0]),
            "output": shown(said[:SHOWN, 0]),
            "states": some_states(x[cut:]),
        }
        return Result(
            self.score,
            errors[self.score],
            "lower",
            Costs(learned, 8 * learned, 0),
            {"forecast": measure},
            trained="a readout, in closed form",
            data=series.source,
        )

    def _drawn(self, bench: Bench, steps: int) -> Series:
        found = self._series().draw(bench, steps)
        if not isinstance(found, Series):
            got = f"{self.series['_target_']} draws a {type(found).__name__}"
            raise UserError(f"series must draw a tasks.reservoir.series.Series; got {got}; name another")
        return found

    def _series(self) -> Any:
        return having(call(self.series, "series"), self.series, "series", ("draw",))

    @staticmethod
    def draw(runs: Sequence[Any], names: Sequence[str]) -> list[Section]:
        """Target against output, and states."""
        return drawing.forecasts(runs, names)
