"""What a stream is: a sequence of tasks, each with its data and its view of the images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol, Self

import torch
from torch import Tensor

from tasks.config.fields import Range
from tasks.data.image_set import ImageSet
from tasks.errors import UserError
from tasks.runs.seeds import generator

Tasks = Annotated[int, Range(least=1, most=100_000)]
"""How many tasks a stream has."""


class View(Protocol):
    """A map from uint8 images (B, C, H, W) to a float batch ready for the network."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """Images (B, C, H, W) as the network sees them."""
        ...

    def picture(self, values: Tensor, /) -> Tensor:
        """Values (H, W), one per input, laid out as in the image that a person sees."""
        ...

    def to(self, device: torch.device | str, /) -> Self:
        """The same view with its tensors on a device."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (N, C, H, W) and their labels int64 (N,). Tasks may share a split, or its images: no task copies them."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """The same split on a device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Task:
    """One task: its data, the view that its network sees, and the number of outputs that it needs.

    Args:
        name: such as ``permuted-3``.
        train: training images and labels.
        test: test images and labels.
        view: what makes inputs of images.
        classes: outputs that the task needs; labels are in [0, classes).

    """

    name: str
    train: Split
    test: Split
    view: View
    classes: int

    def to(self, device: torch.device | str) -> "Task":
        """The same task on a device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device), view=self.view.to(device))


@dataclass(frozen=True, eq=False)
class Stream:
    """A sequence of tasks.

    Args:
        name: of its kind, such as ``permuted``.
        tasks: in their order.
        image_set: what they are made of, for what a run records of its data.
        seed: that it was drawn from.
        shape: of one input after the view, without the batch.
        classes: outputs that the network needs: the most of any task.
        held_out: None, or the number of training images that stand in for the test images of each task.

    """

    name: str
    tasks: tuple[Task, ...]
    image_set: ImageSet
    seed: int
    shape: tuple[int, ...]
    classes: int
    held_out: int | None = None

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __getitem__(self, index: int) -> Task:
        return self.tasks[index]

    def to(self, device: torch.device | str) -> "Stream":
        """The same stream on a device. What tasks share stays shared: 250 tasks move one copy of the images."""
        parts = {id(part): part for task in self.tasks for part in (task.train, task.test)}
        images = {id(held): held.to(device) for held in {id(p.images): p.images for p in parts.values()}.values()}
        splits = {key: Split(images[id(part.images)], part.labels.to(device)) for key, part in parts.items()}
        tasks = tuple(
            replace(task, train=splits[id(task.train)], test=splits[id(task.test)], view=task.view.to(device))
            for task in self.tasks
        )
        return replace(self, tasks=tasks)

    def describe(self) -> dict[str, Any]:
        """What a run records of its data: `name`, `sha256` and `substitute` of the image set, then the stream's own."""
        return {
            "name": self.image_set.name,
            "sha256": self.image_set.sha256,
            "substitute": self.image_set.substitute,
            "stream": self.name,
            "tasks": len(self.tasks),
            "classes": self.classes,
            "shape": list(self.shape),
            "seed": self.seed,
            "held_out": self.held_out,
        }


def held_out(stream: Stream, count: int, seed: int) -> Stream:
    """The stream with some training images of each task as its test images, and without them in training.

    For the choice of hyper-parameters: nothing is tuned on test data. Tasks that share their training images share the
    cut, whatever their labels. UserError where no image would be left to train on.

    Args:
        stream: left as it is.
        count: images taken out of each task's training images, at least 1.

    """
    shared: dict[int, list[tuple[Tensor, Tensor]]] = {}
    cuts: dict[int, tuple[Split, Split]] = {}
    for index, task in enumerate(stream.tasks):
        if not 0 < count < len(task.train):
            size = len(task.train)
            raise UserError(f"held_out must leave images to train on; got {count} of {size} in {task.name}; take fewer")
        images, labels = task.train.images, task.train.labels
        if id(images) not in shared:
            order = torch.randperm(len(images), generator=generator("held_out", seed, index)).to(images.device)
            # Sorted, so that a cut keeps the order of the data and differs from it only by what it lacks.
            parts = (order[count:].sort().values, order[:count].sort().values)
            shared[id(images)] = [(part, images[part]) for part in parts]
        if id(task.train) not in cuts:
            kept, held = (Split(taken, labels[part]) for part, taken in shared[id(images)])
            cuts[id(task.train)] = (kept, held)
    tasks = tuple(replace(t, train=cuts[id(t.train)][0], test=cuts[id(t.train)][1]) for t in stream.tasks)
    return replace(stream, tasks=tasks, held_out=count)


def count_of_tasks(count: int) -> int:
    """The number of tasks, if it is one."""
    if count < 1:
        raise UserError(f"a stream has at least one task; got tasks={count}; ask for one or more")
    return count
