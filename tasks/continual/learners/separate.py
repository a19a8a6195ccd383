"""A network of its own for every task: what the architecture can learn, at the price of all of its weights per task."""

from torch import Tensor, nn

from neuromod import Target
from neuromod.target.skeleton import plain_copy
from tasks.continual.learners.base import Base, apart
from tasks.continual.streams import Stream
from tasks.experiment import Bench, Costs


class Separate(Base):
    """``f(x ; W_t)``: each ``W_t`` starts where the target is and is trained on task t alone."""

    def __init__(self, target: Target, stream: Stream, bench: Bench) -> None:
        super().__init__()
        self.nets = nn.ModuleList(plain_copy(target.pristine) for _ in range(len(stream)))

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        return apart(lambda part, t: self.nets[t](part), x, task)

    def costs(self) -> Costs:
        """A whole network for each task."""
        own = list(self.nets[0].parameters())
        return Costs(sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own), 0)
