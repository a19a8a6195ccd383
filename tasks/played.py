"""A modulated network as the training loop sees it."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Modulated, calibrate
from tasks.streams import Task

OWN = re.compile(r"\.(rows|table)\.0(\.|$)")


class Played(nn.Module):
    """A `Modulated` that is told the task where a source reads it, and whose statistics are measured after training."""

    trained = True
    role = "modulator"

    def __init__(self, model: Modulated) -> None:
        super().__init__()
        self.model = model
        modulators = list(model.modulators.values())
        self.reads_task = any(m.reads == "task" for m in modulators)
        self.measures = any(not m.kind.learned for m in modulators)  # type: ignore[union-attr]

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        told: dict[str, Any] = {"task": task} if self.reads_task else {}
        logits: Tensor = self.model(x, **told)
        return logits

    def finish(self, number: int, task: Task, batches: list[Tensor]) -> None:
        """Measure the statistics of a task that was trained."""
        if self.measures:
            calibrate(self.model, number, batches)

    @torch.no_grad()
    def per_task(self) -> tuple[int, int, int]:
        """Parameters a task, bytes a task at rest, shared parameters."""
        total = {name: p.numel() for name, p in self.model.named_parameters()}
        tasks = self.model.tasks()
        own = sum(count for name, count in total.items() if OWN.search(name))
        alive = sum(count for name, count in total.items() if re.search(r"\.(rows|table)\.\d+(\.|$)", name))
        return own, self._bytes(own, tasks), sum(total.values()) - alive

    def _bytes(self, own: int, tasks: tuple[int, ...]) -> int:
        # A shared source stores a code a task and not the rows that it makes of it.
        total = 0
        for modulator in self.model.modulators.values():
            if modulator.reads == "task" and tasks:
                table = hasattr(modulator.source, "rows")
                names = [(n, p) for n, p in modulator.named_parameters() if OWN.search(f".{n}")]
                row = modulator.frozen(self._row(modulator, tasks[0])) if table else dict(names)  # type: ignore[operator]
                total += sum(v.numel() * v.element_size() for v in row.values())
        return total

    @staticmethod
    def _row(modulator: Any, task: int) -> dict[str, Tensor]:
        row: dict[str, Tensor] = modulator.source.row(task)
        return row
