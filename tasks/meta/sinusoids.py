"""Sinusoid regression from a few points: MAML and CAVIA (Finn et al. 2017, section 5.1; Zintgraf et al. 2019, section 5.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neuromod import Recipe
from neuromod.meta import Episodes, backward
from tasks.config.build import call, having, target_of
from tasks.config.fields import Count, Range, Rate, Steps
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.meta import sampling
from tasks.meta.family import MetaTraining, outer


class Regressor(nn.Module):
    """Two hidden layers of 40 ReLU units from x, and a context beside it, to y."""

    def __init__(self, context: int = 0, hidden: int = 40) -> None:
        super().__init__()
        self.context = context
        self.net = nn.Sequential(
            *(nn.Linear(1 + context, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, 1),
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Inputs (B, 1), and a context (size,) of the task they belong to, to (B, 1)."""
        if context is not None:
            x = torch.cat([x, context.expand(len(x), -1)], 1)
        y: Tensor = self.net(x)
        return y


@dataclass(frozen=True)
class Test:
    """``tasks``: waves never seen, 2 or more for the error of their mean; ``points``: of each, to be judged by."""

    tasks: Annotated[int, Range(least=2, most=1_000_000)] = 1000
    points: Count = 100


@dataclass(frozen=True, kw_only=True)
class Sinusoids(MetaTraining):
    """Meta-train on waves, test on waves never seen.

    The headline is the mean squared error over test tasks after adaptation; ``sinusoids.standard_error`` is that of its mean,
    ``sinusoids.explained`` the share of the variance of y that is explained.

    Args:
        adapt: how a wave is learned (`tasks.meta.adapt.Maml`, `Cavia`).
        tasks: per outer step.
        shots: points of a wave to adapt on.
        queries: points to judge by.
        steps: outer steps.
        clamp: each number of an outer gradient is cut to +- clamp.
        test: the test; ``rate`` and ``schedule`` are those of `MetaTraining`.

    """

    adapt: Mapping[str, Any]
    tasks: Count = 25
    shots: Count = 10
    queries: Count = 10
    steps: Steps = 50_000
    clamp: Rate = 10.0
    test: Test = field(default_factory=Test)

    def __post_init__(self) -> None:
        super().__post_init__()
        target_of(self.adapt, "adapt")

    def execute(self, bench: Bench) -> Result:
        """Meta-train, then test; goes on from the run's checkpoint."""
        if bench.held_out is not None:
            raise UserError("sinusoids are drawn, none can be held out; select has none to choose")
        adaptation = having(call(self.adapt, "adapt"), self.adapt, "adapt", ("context_size",))
        size = adaptation.context_size
        net = Recipe(Regressor, {"context": size}, init="pytorch", seed=bench.seeds["target"]).build().to(bench.device)

        def step(number: int) -> Tensor:
            drawn = sampling.sinusoids(self.tasks, self.shots, self.queries, bench.seeds["data"], number)
            loss = adaptation(net, _to(drawn, bench.device), mse_loss).mean()
            backward(loss)
            nn.utils.clip_grad_value_(net.parameters(), self.clamp)
            detached: Tensor = loss.detach()
            return detached

        outer(net, step, bench, steps=self.steps, rate=self.rate, schedule=self.schedule)
        tested = sampling.sinusoids(self.test.tasks, self.shots, self.test.points, bench.seeds["sampling"], 0)
        found = adaptation(net, _to(tested, bench.device), mse_loss).detach().double()
        mean, variance = float(found.mean()), float(tested.query[1].double().var())
        error = float(found.std() / len(found) ** 0.5)
        return Result(
            "mse",
            mean,
            "lower",
            Costs(0, 0, sum(p.numel() for p in net.parameters())),
            {"sinusoids": {"standard_error": error, "explained": 1 - mean / variance}},
            trained=f"{self.steps} outer steps",
            data={"name": None, "sha256": None, "substitute": None, "stream": "sinusoids"},
        )


def _to(episodes: Episodes, device: torch.device) -> Episodes:
    return Episodes(*(tuple(part.to(device) for part in tree) for tree in episodes))
