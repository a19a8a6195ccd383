"""What is trained on a stream of tasks, as the loops and the measures see it."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tasks.continual.streams import Stream, Task, evaluate_batches
from tasks.experiment import Costs, Role


class Learner(Protocol):
    """Learns tasks and is tested on them; a config names its class, called as ``class(target, stream, bench, **options)``.

    `Base` has what most of them share.
    """

    role: Role
    """``modulator``, or ``bracket``: what modulators lie between."""

    def __call__(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs) of inputs (B, ...) whose task, one id or int64 (B,), is known."""
        ...

    def trained_on(self, stream: Stream) -> Stream:
        """The stream as it is trained on: itself, or features in the place of images where these stand still."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """Groups of parameters for an optimiser, such as ``{"params": [...], "lr": 0.1}``; none where nothing is trained."""
        ...

    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Between the backward pass and the optimiser's step: add to gradients (springs, regularisers), clip them."""
        ...

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Behind the optimiser's step: grow, prune, project. ``step`` counts from 0 in each task."""
        ...

    def after_task(self, number: int, task: Task) -> None:
        """What a task needs behind its last step, such as the statistics of its norms."""
        ...

    def costs(self) -> Costs:
        """What is kept for use: parameters and bytes per task, and what all tasks share."""
        ...

    def train(self, mode: bool = True) -> Any:
        """As `torch.nn.Module.train`."""
        ...

    def eval(self) -> Any:
        """As `torch.nn.Module.eval`."""
        ...

    def to(self, device: torch.device) -> Any:
        """As `torch.nn.Module.to`."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """All that training changes, by name: tensors and plain values, as a checkpoint takes them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Take up what `state_dict` gave."""
        ...


class Base(nn.Module):
    """A learner that does nothing but to be trained by its parameters."""

    role: Role = "bracket"

    def trained_on(self, stream: Stream) -> Stream:
        """The stream itself."""
        return stream

    def groups(self) -> list[dict[str, Any]]:
        """One group of all parameters that ask for a gradient."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return [{"params": trained}] if trained else []

    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Leave the gradients as they are."""

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Leave the parameters as they are."""

    def after_task(self, number: int, task: Task) -> None:
        """Nothing to do after a task."""

    def costs(self) -> Costs:
        """All parameters, shared by the tasks."""
        return Costs(0, 0, sum(p.numel() for p in self.parameters()))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision with bfloat16, or nothing (float32)."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


@torch.no_grad()
def accuracy(
    call: Callable[[Tensor, int], Tensor], task: Task, number: int, batch: int, precision: str = "float32"
) -> float:
    """The share in [0, 1] of a task's test images that are classified right, the task being known.

    Args:
        call: inputs (B, ...) and the number of their task to logits (B, outputs).
        task: whose test images they are.
        number: its place in the stream.
        batch: images per forward.
        precision: ``float32``, or ``bfloat16`` by autocast.

    """
    right = 0
    for images, labels in evaluate_batches(task.test, batch):
        x = task.view(images)
        with autocast(precision, x.device):
            right += int((call(x, number).argmax(1) == labels).sum())
    return right / len(task.test)


def sample(task: Task, batches: int = 10, size: int = 128) -> list[Tensor]:
    """The first training images of a task as its network sees them, in batches (size, ...): for statistics such as
    those of its norms.

    Args:
        task: whose images.
        batches: at most so many; a last batch of one image is left out, for it has no variance.
        size: images per batch.

    """
    images = task.train.images[: batches * size]
    return [task.view(part) for part in images.split(size) if len(part) > 1]


@torch.no_grad()
def into_head(net: nn.Module, head: str, batches: Iterable[Tensor]) -> Tensor:
    """What goes into a network's last linear layer, sample by sample: (N, ..., fan_in), the batches one behind the other.

    Args:
        net: called with each batch.
        head: name of that layer.
        batches: inputs (B, ...).

    """
    found: list[Tensor] = []
    handle = net.get_submodule(head).register_forward_pre_hook(lambda module, args: found.append(args[0]))
    try:
        for batch in batches:
            net(batch)
    finally:
        handle.remove()
    return torch.cat(found)


def apart(one: Callable[[Tensor, int], Tensor], x: Tensor, task: int | Tensor) -> Tensor:
    """A batch that mixes tasks, for a network that runs one task at a time: logits (B, outputs) in the order of the
    samples, narrower ones padded with -inf as those of `neuromod.Head` are.

    Args:
        one: inputs of one task and its id to logits; called as ``one(x[task == t], t)`` for every t in the batch.

    """
    if isinstance(task, int):
        return one(x, task)
    places = [(task == t).nonzero().squeeze(1) for t in task.unique()]
    parts = [one(x[place], int(task[place[0]])) for place in places]
    width = max(part.shape[1] for part in parts)
    padded = [pad(part, (0, width - part.shape[1]), value=-torch.inf) for part in parts]
    return torch.cat(padded)[torch.cat(places).argsort()]


def sum_over_tasks(losses: Tensor, ids: Tensor) -> Tensor:
    """The sum over the tasks in a batch of the mean loss of each: losses (B,), task ids int64 (B,), to a scalar.

    So a task whose parameters are its own takes the steps that it takes when trained alone.
    """
    return (losses / ids.bincount()[ids]).sum()
