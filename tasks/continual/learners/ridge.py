"""A ridge readout per task on all hidden units of the frozen target: what random features alone can do."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Target
from tasks.continual.learners.base import Base, apart
from tasks.continual.streams import Stream, Task
from tasks.errors import UserError
from tasks.experiment import Bench, Costs

GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


class Ridge(Base):
    """``logits = [h, 1] A``, ``A = (H^T H + c n I)^-1 H^T Y``: h are the outputs of every ReLU, Y one-hot classes.

    The penalty ``c`` is chosen from a grid on a fifth of the training data, held out, and the readout refitted on all.
    """

    target: Target

    def __init__(self, target: Target, stream: Stream, bench: Bench) -> None:
        super().__init__()
        self.__dict__["target"] = target
        self.outputs = stream.classes
        self.readouts = nn.ParameterDict()

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        return apart(lambda part, t: self.features(part) @ self._readout(t), x, task)

    def _readout(self, task: int) -> Tensor:
        if str(task) not in self.readouts:
            rule = "a ridge readout is there once its task is learned"
            raise UserError(f"{rule}; got task {task} before that; pass evaluation.unseen=false")
        found: Tensor = self.readouts[str(task)]
        return found

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """All hidden units and a one: (B, units + 1), float64."""
        found: list[Tensor] = []
        hidden = [m for m in self.target.pristine.modules() if isinstance(m, nn.ReLU)]
        handles = [
            m.register_forward_hook(lambda module, args, output: found.append(output.flatten(1))) for m in hidden
        ]
        try:
            self.target(x)
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat([*found, x.new_ones(len(x), 1)], 1).double()

    def after_task(self, number: int, task: Task) -> None:
        """Fit the readout of a task to all of its training data."""
        labels = task.train.labels
        part = torch.arange(len(labels), device=labels.device) % 5 == 0
        fit, held = self._moments(task, ~part), self._moments(task, part)
        scores = [self._accuracy(_solve(*fit, c), task, part) for c in GRID]
        best = GRID[max(range(len(GRID)), key=scores.__getitem__)]
        both = (fit[0] + held[0], fit[1] + held[1], fit[2] + held[2])
        self.readouts[str(number)] = nn.Parameter(_solve(*both, best), requires_grad=False)

    def costs(self) -> Costs:
        """A readout for each task, in float32."""
        size = next(iter(self.readouts.values())).numel() if len(self.readouts) else 0
        return Costs(size, 4 * size, 0)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Make room for the readouts of a checkpoint: a fresh bracket has none."""
        head = f"{prefix}readouts."
        for name, value in state.items():
            if name.startswith(head):
                self.readouts[name.removeprefix(head)] = nn.Parameter(torch.empty_like(value), requires_grad=False)
        super()._load_from_state_dict(state, prefix, *args)

    def _moments(self, task: Task, chosen: Tensor) -> tuple[Tensor, Tensor, int]:
        gram, cross, count = torch.zeros(()), torch.zeros(()), 0
        for x, y in self._batches(task, chosen):
            h = self.features(x)
            gram = gram + h.T @ h
            cross = cross + h.T @ nn.functional.one_hot(y, self.outputs).double()
            count += len(y)
        return gram, cross, count

    def _accuracy(self, readout: Tensor, task: Task, chosen: Tensor) -> float:
        right = [((self.features(x) @ readout).argmax(1) == y).double().sum() for x, y in self._batches(task, chosen)]
        return float(sum(right)) / max(int(chosen.sum()), 1)

    @staticmethod
    def _batches(task: Task, chosen: Tensor, size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        for index in chosen.nonzero().squeeze(1).split(size):
            yield task.view(task.train.images[index]), task.train.labels[index]


def _solve(gram: Tensor, cross: Tensor, count: int, penalty: float) -> Tensor:
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.linalg.solve(gram + penalty * count * eye, cross)
    return solved
