"""Tasks that are far from the one a network was trained on: another set of images, turned, inverted, or with its pixels exchanged."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from neuromod import Recipe, Target
from tasks.data.image_set import ImageSet, divided
from tasks.data.pixels import unit
from tasks.data.prepare import found, unit_images
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.networks import mlp
from tasks.runs.seeds import generator


@dataclass(frozen=True, eq=False)
class FarTask:
    """Images as a task sees them.

    Args:
        name: in words.
        source: the set that its images come from.
        train_images: uint8 (N, C, H, W).
        train_labels: int64 (N,).
        test_images: uint8 (M, C, H, W).
        test_labels: int64 (M,).

    """

    name: str
    source: ImageSet
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def to(self, device: torch.device) -> "FarTask":
        """The same task on a device."""
        tensors = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return FarTask(self.name, self.source, *(tensor.to(device) for tensor in tensors))


def far_tasks(bench: Bench, other: str) -> tuple[FarTask, ...]:
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
    own = made if bench.held_out is None else tuple(_held_out(task, bench) for task in made)
    return tuple(task.to(bench.device) for task in own)


def described(tasks: tuple[FarTask, ...]) -> Mapping[str, str | None]:
    """What a run records of the data of its tasks: names, hashes and substitutes of the sets that they come from."""
    sets = list({task.source.name: task.source for task in tasks}.values())
    return {
        "name": "+".join(one.name for one in sets),
        "sha256": hashlib.sha256(" ".join(one.sha256 for one in sets).encode()).hexdigest(),
        "substitute": "; ".join(one.substitute for one in sets if one.substitute) or None,
        "stream": "; ".join(task.name for task in tasks),
    }


def drawn(bench: Bench, tasks: tuple[FarTask, ...], hidden: Sequence[int]) -> nn.Module:
    """A network of fully connected layers for the first task, before its training.

    Args:
        bench: whose seed ``source`` draws it.
        tasks: those of `far_tasks`.
        hidden: units of its hidden layers.

    """
    first = tasks[0]
    outputs = int(first.train_labels.max()) + 1
    shape = list(first.train_images.shape[1:])
    options = {"shape": shape, "outputs": outputs, "hidden": list(hidden), "bias": True}
    return Recipe(mlp, options, init="pytorch", seed=bench.seeds["source"]).build().to(bench.device)


def fingerprint(net: nn.Module, tasks: tuple[FarTask, ...]) -> str:
    """SHA-256 of a network before its training and of the sets of images."""
    target = Target(net, unit(tasks[0].train_images[:2])).fingerprint()
    return hashlib.sha256(f"{target} {described(tasks)['sha256']}".encode()).hexdigest()


def _task(name: str, image_set: ImageSet, view: Callable[[Tensor], Tensor] = lambda x: x) -> FarTask:
    train, test = (view(images) for _, images, _ in image_set.parts())
    return FarTask(name, image_set, train, image_set.train_labels, test, image_set.test_labels)


def _turned(x: Tensor) -> Tensor:
    return torch.rot90(x, 1, (2, 3)).contiguous()


def _permuted(order: Tensor, x: Tensor) -> Tensor:
    return x.flatten(1)[:, order].view(x.shape)


def _held_out(task: FarTask, bench: Bench) -> FarTask:
    assert bench.held_out is not None
    size = len(task.train_labels)
    if bench.held_out >= size:
        raise UserError(f"images are held out of {size}; got held_out={bench.held_out}; pass fewer")
    order = torch.randperm(size, generator=generator(bench.seeds["data"], "held out"))
    held, kept = order[: bench.held_out], order[bench.held_out :]
    x, y = task.train_images, task.train_labels
    return FarTask(task.name, task.source, x[kept], y[kept], x[held], y[held])
