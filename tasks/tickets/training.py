"""Training of what is then found: images from 0 to 1, and the one loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neuromod import Recipe
from tasks.config.build import call, target_of
from tasks.config.fields import Count, Steps
from tasks.data import prepare
from tasks.data.image_set import ImageSet
from tasks.data.pixels import unit
from tasks.experiment import Bench
from tasks.runs.loop import Number, Optimiser, factor_of, loop
from tasks.runs.seeds import generator
from tasks.tickets.finding import Finding


def unit_images(bench: Bench) -> ImageSet:
    """The image set of the config; UserError where there is none, or where its pixels shall not be from 0 to 1."""
    return prepare.unit_images(bench, "a network is trained on images before it is found")


@dataclass(frozen=True, kw_only=True)
class TrainedFirst(Finding):
    """A network is trained on images, and then found.

    Args:
        optimizer: that trains it, ``{_target_: torch.optim.SGD, lr: 0.1}``.
        schedule: of the rate (`tasks.runs.loop.factor_of`).
        steps: of training.
        batch: images of a step.

    """

    optimizer: Mapping[str, Any] = field(
        default_factory=lambda: {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}
    )
    schedule: str = "cosine"
    steps: Steps = 3000
    batch: Count = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        target_of(self.optimizer, "optimizer")
        factor_of(self.schedule)

    def fit(self, build: Callable[..., nn.Module], options: Mapping[str, Any], bench: Bench) -> nn.Module:
        """A network that tells the classes of the images apart, on the CPU; goes on from the run's checkpoint.

        Args:
            build: makes it of options, of the shape of an image and of the number of classes.
            options: of it.
            bench: the run.

        """
        found = unit_images(bench)
        options = {"shape": found.shape, "outputs": len(found.classes), **options}
        net = Recipe(build, options, init="pytorch", seed=bench.seeds["source"]).build().to(bench.device)
        optimiser = Optimiser(lambda groups: call(self.optimizer, "optimizer", groups), net.parameters, self.schedule)

        def step(number: int) -> dict[str, Number]:
            rng = generator(bench.seeds["data"], "batch", number)
            chosen = torch.randint(len(found.train_labels), (self.batch,), generator=rng)
            x, y = unit(found.train_images[chosen].to(bench.device)), found.train_labels[chosen].to(bench.device)
            return {"loss": optimiser.descend(lambda: cross_entropy(net(x), y), number / self.steps)}

        loop(step, {"net": net, "optimiser": optimiser}, bench, steps=self.steps)
        return net.eval().cpu()


@torch.no_grad()
def predictions(logits: Callable[[Tensor], Tensor], found: ImageSet) -> Tensor:
    """The class that a network on the CPU gives each test image, (N,)."""
    parts = [logits(unit(part)).argmax(1) for part in found.test_images.split(500)]
    return torch.cat(parts)


def share_right(predicted: Tensor, found: ImageSet) -> float:
    """The share of test images whose class is right."""
    return float((predicted == found.test_labels).double().mean())
