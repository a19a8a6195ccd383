"""A modulated network as the training loop sees it."""

import math
from typing import Any

from torch import Tensor, nn

from neuromod import Modulated, Modulator, OutputRegulariser, calibrate
from tasks.continual.streams import Task


def told(model: Modulated, task: int | Tensor, condition: int | Tensor | None = None) -> dict[str, Any]:
    """What a call says beside the images, as far as a source reads it: the task, and its number as the condition."""
    said = {"task": task, "condition": task if condition is None else condition}
    return {key: value for key, value in said.items() if key in model.reads}


class Played(nn.Module):
    """A `Modulated` that is told the task where a source reads it, and whose statistics are measured after training.

    Where a source reads the condition, the task's number is the condition, as an integer label. A regulariser holds
    each task from its end on.
    """

    trained = True
    role = "modulator"

    def __init__(self, model: Modulated, regulariser: OutputRegulariser | None = None) -> None:
        super().__init__()
        self.model = model
        self.regulariser = regulariser
        self.measures = any(not m.kind.learned for m in model.named_modulators().values())

    def forward(self, x: Tensor, task: int | Tensor, condition: int | Tensor | None = None) -> Tensor:
        """Logits (B, outputs); the condition is that of the task unless another is given."""
        logits: Tensor = self.model(x, **told(self.model, task, condition))
        return logits

    def finish(self, number: int, task: Task, batches: list[Tensor]) -> None:
        """Measure the statistics of a task that was trained, and hold it."""
        if self.measures:
            calibrate(self.model, number, batches, condition=told(self.model, number).get("condition"))
        if self.regulariser is not None:
            self.regulariser.hold(number)

    def per_task(self) -> tuple[int, int, int]:
        """Parameters a task, bytes a task, shared parameters."""
        tasks = self.model.tasks()
        readers = [m for m in self.model.named_modulators().values() if m.reads == "task" and m.kind.learned]
        live = sum(p.numel() for m in readers for t in m.source.tasks() for p in m.source.own(t).values())
        own = sum(_own(m, tasks[0]) for m in readers) if tasks else 0
        total = sum(p.numel() for p in self.model.parameters())
        return own, self.model.bytes_per_task(tasks[0]) if tasks else 0, total - live


def _own(modulator: Modulator, task: int) -> int:
    """The parameters that a task has, or had while it was learned."""
    if task in modulator.source.tasks():
        return sum(p.numel() for p in modulator.source.own(task).values())
    return sum(math.prod(shape) for site in modulator.sites for shape in modulator.kind.shapes(site).values())
