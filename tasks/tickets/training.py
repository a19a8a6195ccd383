"""Training of what is then found: images from 0 to 1, and the one loop."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tasks.config.build import call
from tasks.data.image_set import ImageSet
from tasks.data.prepare import images
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.runs.loop import Number, Optimiser, loop
from tasks.runs.seeds import generator


def unit_images(bench: Bench) -> ImageSet:
    """The image set of the config; UserError where there is none, or where its pixels shall not be from 0 to 1."""
    found = images(bench)
    if found is None:
        raise UserError("a network is trained on images before it is found; got data.name=null; pass data=mnist")
    if found.scaling != "unit":
        raise UserError(
            f"a ticket's inputs are pixels from 0 to 1, never negative; got data.scaling={found.scaling}; pass data.scaling=unit"
        )
    return found


def pixels(bytes_: Tensor, device: torch.device) -> Tensor:
    """Images uint8 to floats from 0 to 1."""
    return bytes_.to(device).float() / 255


def fit(
    net: nn.Module,
    found: ImageSet,
    bench: Bench,
    *,
    optimizer: Mapping[str, Any],
    schedule: str,
    steps: int,
    batch: int,
) -> None:  # reason: a network, its data, and how it is trained
    """Train a network to tell classes apart; goes on from the run's checkpoint.

    Args:
        net: images (B, C, H, W) from 0 to 1 to logits.
        found: the images.
        bench: the run.
        optimizer: ``{_target_: torch.optim.SGD, lr: 0.1}``.
        schedule: of the rate (`tasks.runs.loop.factor_of`).
        steps: of training.
        batch: images of a step.

    """
    optimiser = Optimiser(lambda groups: call(optimizer, "optimizer", groups), net.parameters, schedule)

    def step(number: int) -> dict[str, Number]:
        rng = generator(bench.seeds["data"], "batch", number)
        chosen = torch.randint(len(found.train_labels), (batch,), generator=rng)
        optimiser.set_rate(number / steps)
        optimiser.begin().zero_grad(set_to_none=True)
        logits = net(pixels(found.train_images[chosen], bench.device))
        loss = cross_entropy(logits, found.train_labels[chosen].to(bench.device))
        loss.backward()
        optimiser.step()
        return {"loss": loss.detach()}

    loop(step, {"net": net, "optimiser": optimiser}, bench, steps=steps)
    net.eval()


@torch.no_grad()
def predictions(logits: Callable[[Tensor], Tensor], found: ImageSet) -> Tensor:
    """The class that a network on the CPU gives each test image, (N,)."""
    parts = [logits(pixels(part, torch.device("cpu"))).argmax(1) for part in found.test_images.split(500)]
    return torch.cat(parts)


def share_right(predicted: Tensor, found: ImageSet) -> float:
    """The share of test images whose class is right."""
    return float((predicted == found.test_labels).double().mean())
