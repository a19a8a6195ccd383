"""Everything trained: one plain network for all tasks, without any protection against forgetting."""

from torch import Tensor, nn

from neuromod import Target
from neuromod.target.skeleton import restored
from tasks.continual.sequence import Regulariser
from tasks.continual.streams import Task


class Dense(nn.Module):
    """The target's own architecture and start, every weight trained; one network and one classifier for all tasks."""

    trained = True
    role = "bracket"
    regulariser: Regulariser | None

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.regulariser = None
        self.net = restored(target.pristine)

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs); the task is not told to the network."""
        logits: Tensor = self.net(x)
        return logits

    def finish(self, number: int, task: Task, batches: list[Tensor]) -> None:
        """Nothing to do after a task."""

    def per_task(self) -> tuple[int, int, int]:
        """Parameters a task, bytes a task, shared parameters."""
        total = sum(p.numel() for p in self.net.parameters())
        return 0, 0, total
