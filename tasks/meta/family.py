"""What meta-learning experiments have in common: an outer loop, and that they choose on validation classes themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tasks.config.fields import Rate, Steps, fit_fields
from tasks.data.image_set import ImageSet
from tasks.data.prepare import images
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.runs.loop import Number, Optimiser, factor_of, loop

OuterStep = Callable[[int], Tensor]
"""The number of an outer step to its loss; gradients are left on the parameters."""


@dataclass(frozen=True, kw_only=True)
class MetaTraining:
    """Options of the outer loop, which every family of meta-learning has.

    Args:
        steps: outer steps, 0 or more.
        rate: of Adam, which takes them, > 0.
        schedule: of that rate over all steps (`tasks.runs.loop.factor_of`).

    """

    steps: Steps = 5000
    rate: Rate = 1e-3
    schedule: str = "constant"

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        factor_of(self.schedule)

    def fingerprint(self, bench: Bench) -> str:
        """A constant: beside the config nothing tells these runs apart, for their networks are drawn from the run's
        seeds.
        """
        return "meta"


def outer(net: nn.Module, step: OuterStep, bench: Bench, *, steps: int, rate: float, schedule: str) -> None:
    """Adam over all that asks for a gradient: resumable at every checkpoint, bit for bit, for a step is drawn from its number.

    Args:
        net: what is slow.
        step: an outer step.
        bench: the run.
        steps: outer steps, 0 or more; none where nothing asks for a gradient.
        rate: of Adam, > 0.
        schedule: of the rate over all steps (`tasks.runs.loop.SCHEDULES`).

    """
    moved = [p for p in net.parameters() if p.requires_grad]
    optimiser = Optimiser(partial(torch.optim.Adam, lr=rate), lambda: moved, schedule)
    count = steps if moved else 0

    def one(number: int) -> dict[str, Number]:
        optimiser.set_rate(number / count)
        optimiser.begin().zero_grad(set_to_none=True)
        loss = step(number)
        optimiser.step()
        return {"task": None, "loss": loss}

    loop(one, {"net": net, "optimiser": optimiser}, bench, steps=count)


def classes_of(bench: Bench) -> ImageSet:
    """The image set whose classes are drawn from. UserError where there is none, and under `select`."""
    if bench.held_out is not None:
        rule = "rates of meta-learning are chosen on validation classes in the run itself"
        raise UserError(f"{rule}; select has none to choose")
    found = images(bench)
    if found is None:
        raise UserError("learning to learn classes needs an image set; got data.name=null; pass data=omniglot")
    return found


def data_record(image_set: ImageSet, stream: str) -> dict[str, object]:
    """What a run records of its data."""
    return {"name": image_set.name, "sha256": image_set.sha256, "substitute": image_set.substitute, "stream": stream}
