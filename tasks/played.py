"""A modulated network as the training loop sees it."""

from torch import Tensor, nn

from neuromod import Modulated, calibrate
from tasks.streams import Task


class Played(nn.Module):
    """A `Modulated` that is told the task where a source reads it, and whose statistics are measured after training.

    Where a source reads the condition, the task's number is the condition, as an integer label.
    """

    trained = True
    role = "modulator"

    def __init__(self, model: Modulated) -> None:
        super().__init__()
        self.model = model
        self.measures = any(not m.kind.learned for m in model.named_modulators().values())

    def forward(self, x: Tensor, task: int | Tensor, condition: int | Tensor | None = None) -> Tensor:
        """Logits (B, outputs); the condition is that of the task unless another is given."""
        said = {"task": task, "condition": task if condition is None else condition}
        logits: Tensor = self.model(x, **{key: value for key, value in said.items() if key in self.model.reads})
        return logits

    def finish(self, number: int, task: Task, batches: list[Tensor]) -> None:
        """Measure the statistics of a task that was trained."""
        if self.measures:
            calibrate(self.model, number, batches, condition=number if "condition" in self.model.reads else None)

    def per_task(self) -> tuple[int, int, int]:
        """Parameters a task, bytes a task, shared parameters."""
        tasks = self.model.tasks()
        readers = [m for m in self.model.named_modulators().values() if m.reads == "task"]
        own = [sum(p.numel() for m in readers if m.kind.learned for p in m.source.own(t).values()) for t in tasks]
        total = sum(p.numel() for p in self.model.parameters())
        return own[0] if own else 0, self.model.bytes_per_task(tasks[0]) if tasks else 0, total - sum(own)
