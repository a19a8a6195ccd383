"""What generators are made of: how one is trained whole, frozen as it stands, and modulated."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Generated, Modulated, Modulator, Recipe, Statistics, Table, Target, bake, calibrate
from tasks.data import prepare
from tasks.data.image_set import ImageSet, held_out
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.networks import decoder
from tasks.runs.seeds import derive, generator

EXAMPLE = 4  # latent vectors of a target's example


def unit_images(bench: Bench) -> ImageSet:
    """The image set of the config, on the run's device; where choices are made, training images stand in for its test images."""
    found = prepare.unit_images(bench, "a generator is trained on images")
    if found.shape[1] % 2 or found.shape[2] % 2:
        raise UserError(f"a generator makes images of even sides; got {found.shape}; pass data.side=14")
    return (
        found if bench.held_out is None else held_out(found, bench.held_out, generator(bench.seeds["data"], "held out"))
    )


def drawn(bench: Bench, latent: int, width: int, blocks: int) -> Target:
    """A random decoder, its norms on the statistics of the batch at hand.

    Args:
        bench: the run, whose images say the shape.
        latent: as of `tasks.networks.decoder`.
        width: likewise.
        blocks: likewise.

    """
    shape = list(bench.once(unit_images).shape)
    options = {"shape": shape, "latent": latent, "width": width, "blocks": blocks}
    recipe = Recipe(decoder, options, init="kaiming_normal", seed=bench.seeds["target"])
    example = noise(bench, EXAMPLE, latent, "example").cpu()
    return Target(recipe.build().to(bench.device), example.to(bench.device), norm="batch", recipe=recipe)


def whole(target: Target, tasks: int | None = None) -> Modulator:
    """All weights, norms and biases of a target as what is learned, for each of some tasks, or once."""
    names = [name for name, _ in target.pristine.named_parameters()]
    return Modulator(Generated(), Table(tasks), target.weights(*names), identity=True)


def statistics(target: Target) -> Modulator:
    """A place for the statistics of its norms, those of task 0."""
    return Modulator(Statistics(), Table(1), target.statistics())


def measured(model: Modulated, z: Tensor, condition: Tensor | None = None) -> Modulated:
    """The model in eval mode, the statistics of its norms measured on these samples.

    Args:
        model: whose norms are on the statistics of the batch at hand.
        z: latent vectors (N, latent).
        condition: of each, where one is read.

    """
    with torch.no_grad():
        calibrate(model, 0, z, condition=condition)
    return model.eval()


def frozen(model: Modulated) -> nn.Module:
    """What a measured model is as a plain network."""
    return bake(model, task=0).eval()


def noise(bench: Bench, count: int, latent: int, *names: object) -> Tensor:
    """Latent vectors N(0, 1) (count, latent), drawn for what is named.

    Args:
        bench: the run.
        count: of vectors.
        latent: numbers of each.
        names: what tells this draw from others.

    """
    rng = generator(derive(bench.seeds["sampling"], "noise"), *names)
    return torch.randn(count, latent, generator=rng).to(bench.device)


def in_parts(made: Callable[..., Tensor], *inputs: Tensor, size: int = 500) -> Tensor:
    """What is made of many samples, without gradients, so many at a time.

    Args:
        made: a call of a generator or a classifier.
        inputs: tensors (N, ...).
        size: samples of a call.

    """
    with torch.no_grad():
        return torch.cat([made(*part) for part in zip(*(x.split(size) for x in inputs), strict=True)])


def picture(x: Tensor) -> list[Any]:
    """Images (N, C, H, W) from 0 to 1 as rows of pixels from 0 to 255, the mean of their channels."""
    pixels: list[Any] = (x.mean(1) * 255).round().int().tolist()
    return pixels
