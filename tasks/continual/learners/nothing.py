"""Nothing trained: the frozen target as it is, the floor of every table."""

from torch import Tensor

from neuromod import Target
from tasks.continual.learners.base import Base
from tasks.continual.streams import Stream
from tasks.experiment import Bench


class Nothing(Base):
    """The unmodulated target."""

    target: Target

    def __init__(self, target: Target, stream: Stream, bench: Bench) -> None:
        super().__init__()
        self.__dict__["target"] = target

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        logits: Tensor = self.target(x)
        return logits
