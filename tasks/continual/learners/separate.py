"""A network of its own for every task: what the architecture can learn, at the price of all of its weights a task."""

from torch import Tensor, nn

from neuromod import Target
from neuromod.target.skeleton import restored
from tasks.continual.learners.apart import apart
from tasks.continual.streams import Task


class Separate(nn.Module):
    """``f(x ; W_t)``: each ``W_t`` starts where the target is and is trained on task t alone."""

    trained = True
    role = "bracket"
    regulariser = None

    def __init__(self, target: Target, *, tasks: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(restored(target.pristine) for _ in range(tasks))

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        return apart(lambda part, t: self.nets[t](part), x, task)

    def finish(self, number: int, task: Task, batches: list[Tensor]) -> None:
        """Nothing to do after a task."""

    def per_task(self) -> tuple[int, int, int]:
        """Parameters a task, bytes a task, shared parameters."""
        own = list(self.nets[0].parameters())
        return sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own), 0
