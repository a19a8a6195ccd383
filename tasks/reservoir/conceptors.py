"""Four patterns in one frozen reservoir, each recalled by its conceptor (Jaeger 2014, arXiv 1403.3369)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neuromod import Affine, Conceptor, Modulated, Modulator, Table, Target, give
from neuromod.reservoirs import (
    Readout,
    Reservoir,
    conceptor,
    diagonal,
    driven,
    fit,
    load,
    morph,
    nrmse,
    quota,
    unroll,
    upper,
)
from tasks.config.fields import Count, Rate, Weight, fit_fields
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report.panels import Section
from tasks.reservoir import drawing
from tasks.reservoir.base import Net, shown
from tasks.reservoir.series import patterns
from tasks.runs.seeds import generator

COUNT, SHIFTS, SHOWN = 4, 400, 40
RECALLED = 0.1
"""The NRMSE up to which a pattern counts as recalled."""


@dataclass(frozen=True, kw_only=True)
class Conceptors:
    """Load four patterns into W once, freeze it, and recall each from a random start by the conceptor of its states.

    The headline is the number of patterns, of four, whose NRMSE is above .1; ``conceptors`` has the errors of each with its
    conceptor, with a diagonal one (a gain per unit) and without any, quotas and singular values. A recalled pattern begins at any
    phase: the error is that of the best shift.

    Args:
        net: the reservoir W*, without leak.
        aperture: of the conceptors.
        load_ridge: of W.
        ridge: of the readout.
        washout: steps left out in front, of learning and of recall.
        learn: steps of each pattern.
        recall: steps that are judged.

    """

    net: Net = field(default_factory=Net)
    aperture: Rate = 10.0
    load_ridge: Weight = 1e-4
    ridge: Weight = 0.01
    washout: Count = 500
    learn: Count = 1000
    recall: Count = 200

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        if self.learn < self.recall + SHIFTS:
            raise UserError(
                f"a recalled pattern is compared at {SHIFTS} shifts; got learn={self.learn} for recall={self.recall}; raise learn"
            )

    def fingerprint(self, bench: Bench) -> str:
        """A constant: all is drawn from the run's seeds."""
        return "reservoir"

    def execute(self, bench: Bench) -> Result:
        """Load, freeze, recall."""
        if bench.held_out is not None:
            raise UserError("patterns are recalled without any data; select has none to choose on")
        raw, given = self.net.draw(bench), patterns(self.washout + self.learn, bench.seeds["data"])
        loaded = load(raw, given, washout=self.washout, ridge=self.load_ridge)
        _, x, p = driven(raw, given, self.washout)
        readout, target = fit(x, p, ridge=self.ridge), Target(loaded, loaded.example())
        matrices = [conceptor(states, self.aperture) for states in x]
        gains = [diagonal(states, self.aperture) for states in x]
        full = Modulator(Conceptor(), Table(COUNT), target.outputs("state"), seed=0)
        gain = Modulator(Affine(), Table(COUNT), target.outputs("state"), seed=0)
        models = {"full": Modulated(target, full), "diagonal": Modulated(target, gain)}
        for task in range(COUNT):
            give(full, task, {"half": upper(matrices[task])})
            give(gain, task, {"gain": gains[task]})
        rng = generator("conceptors", "starts", bench.seeds["sampling"])
        start = torch.rand(COUNT, self.net.units, generator=rng, dtype=torch.float64) - 0.5
        found = {name: self._recalled(model, readout, start, p) for name, model in models.items()}
        found["without"] = self._free(loaded, readout, start, p)
        target.verify()
        failures = sum(error > RECALLED for error in found["full"][0])
        bench.run.log(step=1, phase="fit", loss=sum(found["full"][0]) / COUNT)
        half = self.net.units * (self.net.units + 1) // 2
        measure = {
            **{name: {"nrmse": errors, "mean": sum(errors) / COUNT} for name, (errors, _, _) in found.items()},
            "diagonal_failures": sum(error > RECALLED for error in found["diagonal"][0]),
            "quotas": [quota(c) for c in matrices],
            "singular": [shown(torch.linalg.svdvals(c)) for c in matrices],
            "target": [shown(wanted[:SHOWN, 0]) for wanted in found["full"][2]],
            "output": [shown(said[:SHOWN, 0]) for said in found["full"][1]],
            "free": [shown(said[:SHOWN, 0]) for said in found["without"][1]],
            "periods": shown(periods(self._morphed(models["full"], full, readout, matrices, start))),
        }
        return Result(
            "failures",
            float(failures),
            "lower",
            Costs(half, 8 * half, readout.head.weight.numel() + 1),
            {"conceptors": measure},
            trained="W once, and a readout, in closed form",
            data={"name": None, "sha256": None, "substitute": None, "stream": "four patterns"},
        )

    @torch.no_grad()
    def _recalled(self, model: Modulated, readout: Readout, start: Tensor, p: Tensor) -> Any:
        zeros = torch.zeros(COUNT, self.washout + self.recall, 1, dtype=torch.float64)
        tasks = torch.arange(COUNT)[:, None].expand(-1, zeros.shape[1])
        return _judged(readout(unroll(model, zeros, task=tasks, start=start))[:, self.washout :], p)

    @torch.no_grad()
    def _free(self, net: Reservoir, readout: Readout, start: Tensor, p: Tensor) -> Any:
        zeros = torch.zeros(COUNT, self.washout + self.recall, 1, dtype=torch.float64)
        return _judged(readout(net(zeros, start))[:, self.washout :], p)

    # reason: what is played, by what, from where
    @torch.no_grad()
    def _morphed(
        self, model: Modulated, full: Modulator, readout: Readout, matrices: Sequence[Tensor], start: Tensor
    ) -> Tensor:
        """The first sine, then slowly the second: conceptors in between, one every few steps."""
        zeros, x = torch.zeros(1, 20, 1, dtype=torch.float64), start[:1]
        said = []
        for share in torch.cat([torch.zeros(25), torch.linspace(0, 1, 10), torch.ones(5)]).tolist():
            give(full, 0, {"half": upper(morph(matrices[0], matrices[1], share))})
            states = model(zeros, x, task=0)
            said.append(readout(states)[0, :, 0])
            x = states[:, -1]
        give(full, 0, {"half": upper(matrices[0])})
        return torch.cat(said[15:])

    @staticmethod
    def draw(runs: Sequence[Any], names: Sequence[str]) -> list[Section]:
        """Patterns recalled, and singular values."""
        return drawing.recalled(runs, names)


def periods(said: Tensor) -> Tensor:
    """Steps from one upward crossing of zero to the next, between steps by interpolation, of a series (T,)."""
    before, after = said[:-1], said[1:]
    at = ((before < 0) & (after >= 0)).nonzero()[:, 0]
    crossed = at + before[at] / (before[at] - after[at])
    return crossed[1:] - crossed[:-1]


def _judged(said: Tensor, p: Tensor) -> tuple[list[float], list[Tensor], list[Tensor]]:
    """Of each pattern the error at the best shift, what was said, and the pattern at that shift."""
    errors, best = [], []
    for one, pattern in zip(said, p, strict=True):
        at = [nrmse(one, pattern[shift : shift + len(one)]) for shift in range(SHIFTS)]
        shift = min(range(SHIFTS), key=at.__getitem__)
        errors.append(at[shift])
        best.append(pattern[shift : shift + len(one)])
    return errors, list(said), best
