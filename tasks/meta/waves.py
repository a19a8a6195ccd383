"""Sinusoid regression from a few points: MAML and CAVIA (Finn et al. 2017, section 5.1; Zintgraf et al. 2019, section 5.1)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neuromod import Recipe
from neuromod.meta import SGD, Episodes, Functional, backward, cavia, maml
from tasks.data.load import ImageSet
from tasks.errors import UserError, nearest
from tasks.meta.sampling import sinusoids
from tasks.runs.loop import loop
from tasks.runs.run import Run

METHODS = ("maml", "cavia")


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
        found: Tensor = self.net(x)
        return found


def waves(
    config: Mapping[str, Any], images: ImageSet | None, run: Run, derived: Mapping[str, int], device: torch.device
) -> dict[str, Any]:
    """Meta-train on waves, test on waves never seen; goes on from the run's checkpoint.

    ``meta.mse`` is the mean squared error over test tasks after adaptation, ``meta.standard_error`` that of its mean;
    ``accuracy`` is the share of the variance of y that is explained.
    """
    options = config["meta"]
    if options["method"] not in METHODS:
        known = nearest(options["method"], METHODS)
        raise UserError(f"meta.method must be one of {', '.join(METHODS)}; got {options['method']!r}; nearest: {known}")
    size = options["context"] if options["method"] == "cavia" else 0
    net = Recipe(Regressor, {"context": size}, init="pytorch", seed=derived["target"]).build().to(device)

    def step(number: int) -> Tensor:
        drawn = sinusoids(options["tasks"], options["shots"], options["queries"], derived["data"], number)
        loss = losses(net, _to(drawn, device), options).mean()
        backward(loss)
        nn.utils.clip_grad_value_(net.parameters(), options["clamp"])
        return loss.detach()

    loop(net, step, run, config, config["steps"])
    asked = options["test"]
    tested = sinusoids(asked["tasks"], options["shots"], asked["points"], derived["sampling"], 0)
    found = losses(net, _to(tested, device), options).detach().double()
    mean, variance = float(found.mean()), float(tested.query[1].double().var())
    error = float(found.std() / len(found) ** 0.5)
    return {
        "meta": {"mse": mean, "standard_error": error, "order": options["order"], "fast": options["method"]},
        "accuracy": 1 - mean / variance,
        "trained": f"{config['steps']} outer steps",
        "parameters_shared": sum(p.numel() for p in net.parameters()),
        "stream": "sinusoids",
    }


def losses(net: nn.Module, episodes: Episodes, options: Mapping[str, Any]) -> Tensor:
    """The error (T,) of each task after its inner steps."""
    told: dict[str, Any] = {"steps": options["inner"]["steps"], "order": options["order"]}
    rule = SGD(options["inner"]["rate"])
    if options["method"] == "cavia":

        def by_context(fast: Mapping[str, Tensor], batch: Any) -> Tensor:
            return mse_loss(net(batch[0], fast["context"]), batch[1])

        like = next(net.parameters())
        return cavia(by_context, options["context"], episodes, rule, like=like, **told)
    declared = Functional(net, "*")

    def by_weights(fast: Mapping[str, Tensor], batch: Any) -> Tensor:
        return mse_loss(declared(fast, batch[0]), batch[1])

    return maml(by_weights, declared.start(), episodes, rule, **told)


def _to(episodes: Episodes, device: torch.device) -> Episodes:
    return Episodes(*(tuple(part.to(device) for part in tree) for tree in episodes))
