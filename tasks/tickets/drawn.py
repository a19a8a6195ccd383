"""Targets that are drawn themselves: how error falls with overparameterisation, and how many targets one network holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuromod import Modulated, Recipe
from neuromod.tickets import MLPTicket, RandomMLP, measured_error, median_error_law, unit_ball
from tasks.config.fields import Count, Rate
from tasks.errors import UserError
from tasks.experiment import Bench, Result
from tasks.networks import mlp
from tasks.runs.loop import Number, loop
from tasks.runs.seeds import derive
from tasks.tickets.finding import Finding, Records, refuse_selection, timed

PICTURED = (32, 96)  # rows and units of the mask that a report shows


@dataclass(frozen=True, kw_only=True)
class Drawn(Finding):
    """Find drawn networks of Linear and ReLU layers in one random network; the headline is the largest certified error.

    ``ticket`` has the measured error beside it, and ``ticket_law`` the median error of a weight over n, with its slope in bits per
    candidate.

    Args:
        widths: of the targets, inputs and outputs among them.
        targets: how many are found, each a task of the same frozen network.
        init: of the targets (`neuromod.Recipe`).
        bias: whether they have biases.
        normalised: whether each weight matrix is divided by its spectral norm.
        nonnegative_input: whether inputs are never negative.
        radius: of the ball of inputs.
        samples: points of it at which the error is measured.
        law: numbers of candidates at which the first target is found again, without spare units; none: no law.

    """

    widths: Sequence[int]
    targets: Count = 1
    init: str = "pytorch"
    bias: bool = False
    normalised: bool = False
    nonnegative_input: bool = False
    radius: Rate = 1.0
    samples: Count = 10_000
    law: Sequence[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.law)) == 1:
            raise UserError(f"a law is a line through two n or more; got law={list(self.law)}; name another, or none")
        for n in self.law:
            replace(self, n=n, law=())

    def fingerprint(self, bench: Bench) -> str:
        """That of the random network, which is drawn before any target."""
        random, _ = bench.once(self._random)
        return random.target.fingerprint()

    def execute(self, bench: Bench) -> Result:
        """Find every target, and measure what is found."""
        refuse_selection(bench)
        random, drawing = bench.once(self._random)
        model, records = random.model(), Records()
        x = unit_ball(
            self.samples,
            self.widths[0],
            radius=self.radius,
            seed=bench.seeds["sampling"],
            nonnegative=self.nonnegative_input,
        )

        def step(number: int) -> dict[str, Number]:
            (ticket, seen), seconds = timed(partial(self._find, random, model, number, self._target(bench, number), x))
            certified = ticket.certificate(self.radius)
            records.add(ticket, certified=certified, measured=seen, seconds=seconds)
            return {"task": number, "loss": certified, "measured": seen}

        loop(step, {"model": model, "records": records}, bench, steps=self.targets)
        each = {key: [one[key] for one in records.each] for key in ("certified", "measured", "seconds")}
        ticket: dict[str, Any] = {
            **records.account(model),
            "certified": max(each["certified"]),
            "measured": max(each["measured"]),
            "certified_each": each["certified"],
            "measured_each": each["measured"],
            "seconds": drawing + sum(each["seconds"]),
        }
        measures = {"ticket": ticket, "ticket_mask": {"bits": _pictured(model)}}
        if self.law:
            measures["ticket_law"] = self._law(bench, self._target(bench, 0))
        return Result(
            "certified",
            ticket["certified"],
            "lower",
            records.costs(model),
            measures,
            trained="nothing",
            data={"name": None, "sha256": None, "substitute": None, "stream": "drawn targets"},
        )

    def _random(self, bench: Bench) -> tuple[RandomMLP, float]:
        return timed(partial(self._drawn, bench, self.n, self.spare))

    def _drawn(self, bench: Bench, n: int, spare: int) -> RandomMLP:
        random = RandomMLP(
            list(self.widths), n, spare, self.bias, self.nonnegative_input, self.scale, bench.seeds["target"]
        )
        random.target.fingerprint()
        return random

    def _target(self, bench: Bench, number: int) -> nn.Module:
        inputs, *hidden, outputs = self.widths
        options = {"shape": [inputs], "outputs": outputs, "hidden": hidden, "bias": self.bias}
        net = Recipe(mlp, options, init=self.init, seed=derive(bench.seeds["source"], "target", number)).build()
        for parameter in net.parameters() if self.normalised else ():
            if parameter.ndim == 2:
                parameter.data /= torch.linalg.matrix_norm(parameter.data, ord=2)
        return net

    def _find(
        self, random: RandomMLP, model: Modulated, task: int, net: nn.Module, x: Tensor
    ) -> tuple[MLPTicket, float]:
        ticket = random.find(net, tolerance=self.tolerance)
        ticket.put(model, task)
        return ticket, measured_error(model, task, net, x)

    def _law(self, bench: Bench, net: nn.Module) -> dict[str, Any]:
        errors = [self._drawn(bench, n, 0).find(net).errors() for n in self.law]
        medians = [float(error.median()) for error in errors]
        return {
            "n": list(self.law),
            "median": medians,
            "high": [float(error.quantile(0.99)) for error in errors],
            "law": [median_error_law(n, self.scale**2 / 9) for n in self.law],
            "slope": float(np.polyfit(self.law, [math.log2(median) for median in medians], 1)[0]),
        }


def _pictured(model: Modulated) -> list[list[int]]:
    """A corner of the first ticket's mask over the second layer of the first block: which units each output reads."""
    rows, units = PICTURED
    weight = model.edits(task=0)["3.weight"]
    corner: list[list[int]] = (weight[:rows, :units] != 0).int().tolist()
    return corner
