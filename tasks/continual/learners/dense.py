"""Everything trained: one plain network for all tasks, without any protection against forgetting."""

from collections.abc import Mapping

from torch import Tensor

from neuromod import Target
from neuromod.target.skeleton import plain_copy
from tasks.continual.learners.base import Base
from tasks.continual.streams import Stream
from tasks.experiment import Bench


class Dense(Base):
    """The target's own architecture and start, every weight trained; one network and one classifier for all tasks."""

    start: Mapping[str, Tensor]

    def __init__(self, target: Target, stream: Stream, bench: Bench) -> None:
        super().__init__()
        self.net = plain_copy(target.pristine)
        # What it started with, to be compared with; the target's own tensors, not copies.
        self.__dict__["start"] = target.tensors()

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs); the network does not read the task."""
        logits: Tensor = self.net(x)
        return logits
