"""Tasks that are far from the one a network was trained on: another set of images, turned, inverted, or with its pixels exchanged."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from neuromod import Recipe, Target
from tasks.data.image_set import ImageSet, divided, held_out
from tasks.data.pixels import unit
from tasks.data.prepare import found, unit_images
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.networks import mlp
from tasks.runs.seeds import generator


def far_tasks(bench: Bench, other: str) -> tuple[ImageSet, ...]:
    """The set of the config as it is, and five tasks far from it: another set, the first turned, inverted, permuted, the other turned.

    Where hyper-parameters are chosen, training images stand in for the test images.

    Args:
        bench: whose config names the first set; its seed draws the permutation and what is held out.
        other: name of the other set.

    """
    first = unit_images(bench, "a network is trained on images before it is carried on")
    second = divided(found({**bench.data, "name": other}))
    if second.shape != first.shape or len(second.classes) > len(first.classes):
        shapes = f"{first.name} {first.shape} of {len(first.classes)} classes, {other} {second.shape} of {len(second.classes)}"
        raise UserError(
            f"the other set has images of the first one's shape, and no more classes; got {shapes}; take another"
        )
    order = torch.randperm(first.train_images[0].numel(), generator=generator(bench.seeds["data"], "permutation"))
    made = (
        _task(first.name, first),
        _task(second.name, second),
        _task(f"{first.name}, turned", first, _turned),
        _task(f"{first.name}, inverted", first, lambda x: 255 - x),
        _task(f"{first.name}, permuted", first, partial(_permuted, order)),
        _task(f"{second.name}, turned", second, _turned),
    )
    own = made if bench.held_out is None else tuple(_held_out(task, bench.held_out, bench) for task in made)
    return tuple(task.to(bench.device) for task in own)


def described(tasks: tuple[ImageSet, ...]) -> Mapping[str, str | None]:
    """What a run records of the data of its tasks: names, hashes and substitutes of the sets that they come from."""
    # A task has the hash of the set that it is a view of; the first view of each has its name.
    sets = [task for i, task in enumerate(tasks) if task.sha256 not in [before.sha256 for before in tasks[:i]]]
    return {
        "name": "+".join(one.name for one in sets),
        "sha256": hashlib.sha256(" ".join(one.sha256 for one in sets).encode()).hexdigest(),
        "substitute": "; ".join(one.substitute for one in sets if one.substitute) or None,
        "stream": "; ".join(task.name for task in tasks),
    }


def drawn(bench: Bench, tasks: tuple[ImageSet, ...], hidden: Sequence[int]) -> nn.Module:
    """A network of fully connected layers for the first task, before its training.

    Args:
        bench: whose seed ``source`` draws it.
        tasks: those of `far_tasks`.
        hidden: units of its hidden layers.

    """
    first = tasks[0]
    options = {"shape": list(first.shape), "outputs": len(first.classes), "hidden": list(hidden), "bias": True}
    return Recipe(mlp, options, init="pytorch", seed=bench.seeds["source"]).build().to(bench.device)


def fingerprint(net: nn.Module, tasks: tuple[ImageSet, ...]) -> str:
    """SHA-256 of a network before its training and of the sets of images."""
    target = Target(net, unit(tasks[0].train_images[:2])).fingerprint()
    return hashlib.sha256(f"{target} {described(tasks)['sha256']}".encode()).hexdigest()


def _task(name: str, image_set: ImageSet, view: Callable[[Tensor], Tensor] = lambda x: x) -> ImageSet:
    train, test = (view(images) for _, images, _ in image_set.parts())
    return replace(image_set, name=name, train_images=train, test_images=test)


def _turned(x: Tensor) -> Tensor:
    return torch.rot90(x, 1, (2, 3)).contiguous()


def _permuted(order: Tensor, x: Tensor) -> Tensor:
    return x.flatten(1)[:, order].view(x.shape)


def _held_out(task: ImageSet, count: int, bench: Bench) -> ImageSet:
    return held_out(task, count, generator(bench.seeds["data"], "held out"))
