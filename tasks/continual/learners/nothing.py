"""Nothing trained: the frozen target as it is, the floor of every table."""

from torch import Tensor, nn

from neuromod import Target
from tasks.continual.streams import Task


class Nothing(nn.Module):
    """The unmodulated target."""

    trained = False
    role = "bracket"
    regulariser = None

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.__dict__["target"] = target

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        logits: Tensor = self.target(x)
        return logits

    def finish(self, number: int, task: Task, batches: list[Tensor]) -> None:
        """Nothing to do after a task."""

    def per_task(self) -> tuple[int, int, int]:
        """Parameters a task, bytes a task, shared parameters."""
        return 0, 0, 0
